//! How far two spellings of a name are apart.

/// Letters of a name that are compared.
const LETTERS_MAX: usize = 24;

/// Restricted Damerau–Levenshtein distance (Damerau 1964; the optimal string alignment): insertions, deletions, substitutions
/// and swaps of neighbours; of the first 24 letters.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| text.chars().take(LETTERS_MAX).collect::<Vec<char>>();
    let (a, b) = (letters(a), letters(b));
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let other = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + other);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Whether one name may be the other with a slip of the keyboard: one for five letters, two for nine, never the first letter.
pub(super) fn is_typo(a: &str, b: &str) -> bool {
    let (long, short) = (a.chars().count().max(b.chars().count()), a.chars().count().min(b.chars().count()));
    let slips = match short {
        0..=4 => 0,
        5..=8 => 1,
        _ => 2,
    };
    long - short <= slips && a.chars().next() == b.chars().next() && distance(a, b) <= slips
}

/// Whether one is the beginning of the other, as short forms are: "Balma" of "Balmaceda".
pub(super) fn is_short_form(short: &str, long: &str) -> bool {
    short.chars().count() >= 4 && long.chars().count() >= short.chars().count() + 2 && long.starts_with(short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slips_are_counted_as_damerau_does() {
        for (a, b, expected) in [("marsh", "marsh", 0), ("marsh", "mrash", 1), ("marsh", "mars", 1), ("ca", "abc", 3)] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
        assert!(is_typo("ottoline", "ottolnie") && !is_typo("dana", "dona") && !is_typo("marsh", "harsh"));
        assert!(is_short_form("otto", "ottoline") && !is_short_form("ott", "ottoline"));
    }

    proptest! {
        #[test]
        fn a_distance_is_symmetric_and_bounded(a in "[a-c]{0,8}", b in "[a-c]{0,8}") {
            let found = distance(&a, &b);
            prop_assert_eq!(found, distance(&b, &a));
            prop_assert_eq!(found == 0, a == b);
            prop_assert!(found >= a.len().abs_diff(b.len()) && found <= a.len().max(b.len()));
        }
    }
}
