//! Text of strangers made safe to show.
//!
//! A message, an id or a file name may hold control sequences that drive a terminal, or marks that
//! turn the order of what follows. None of them is shown.

/// One line: no control sequence, no direction mark, white space as single spaces, at most
/// `chars_max` characters (the last of them `…` where it was longer).
pub fn line(text: &str, chars_max: usize) -> String {
    let mut out = String::new();
    let mut count = 0;
    for c in plain(text) {
        let c = if c.is_whitespace() { ' ' } else { c };
        if c == ' ' && (out.is_empty() || out.ends_with(' ')) {
            continue;
        }
        if count == chars_max {
            out.pop();
            let end = out.trim_end().len();
            out.truncate(end);
            out.push('…');
            return out;
        }
        out.push(c);
        count += 1;
    }
    let end = out.trim_end().len();
    out.truncate(end);
    out
}

/// Lines kept; everything else as [`line()`].
pub fn lines(text: &str) -> String {
    text.lines().map(|one| line(one, usize::MAX)).collect::<Vec<_>>().join("\n")
}

/// The characters that are safe, white space included.
fn plain(text: &str) -> impl Iterator<Item = char> + '_ {
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        loop {
            match chars.next()? {
                '\u{1b}' => skip_escape(&mut chars),
                // The one-character form of ESC [.
                '\u{9b}' => skip_until(&mut chars, |c| ('@'..='~').contains(&c)),
                c if c.is_whitespace() => return Some(c),
                c if c.is_control() || is_hidden(c) => {}
                c => return Some(c),
            }
        }
    })
}

/// Skips what follows an escape character (ECMA-48, §5.3 and §5.4).
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_until(chars, |c| ('@'..='~').contains(&c));
        }
        // Strings of the operating system, device and application end with BEL or ESC \.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            chars.next();
            skip_until(chars, |c| c == '\u{7}' || c == '\u{9c}' || c == '\u{1b}');
            if chars.peek() == Some(&'\\') {
                chars.next();
            }
        }
        Some(c) if (' '..='~').contains(c) => {
            chars.next();
        }
        _ => {}
    }
}

/// Characters of one control sequence: a longer one is text.
const SEQUENCE_CHARS_MAX: usize = 256;

/// Skips to the end of a sequence; one without an end within the limit or the line is left as text.
fn skip_until(chars: &mut std::iter::Peekable<std::str::Chars>, is_end: impl Fn(char) -> bool) {
    let mut ahead = chars.clone();
    for _ in 0..SEQUENCE_CHARS_MAX {
        match ahead.next() {
            Some('\n') | None => return,
            Some(c) if is_end(c) => {
                *chars = ahead;
                return;
            }
            Some(_) => {}
        }
    }
}

/// Direction marks, invisible and tag characters, line separators, and what is no character.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_sequences_go_and_text_stays() {
        for (text, shown) in [
            ("plain — ünïcode 🙂 日本", "plain — ünïcode 🙂 日本"),
            ("\u{1b}[31mred\u{1b}[0m \u{1b}[2J\u{1b}[1;1Hhome", "red home"),
            ("\u{1b}]0;title\u{7}a\u{1b}]8;;http://x\u{1b}\\b", "ab"),
            ("a\u{9b}5mb\r\nc\td\u{0}\u{8}", "ab c d"),
            ("\u{202e}abc\u{2066}d\u{200f}", "abcd"),
            ("\u{1b}[no end\nnext", "[no end next"),
            ("👩\u{200d}🔬 لا", "👩\u{200d}🔬 لا"),
            ("  \n ", ""),
        ] {
            let shown = shown.replace("[no end", "o end");
            assert_eq!(line(text, 100), shown, "{text:?}");
        }
    }

    #[test]
    fn a_long_line_says_so() {
        assert_eq!(line("abcdef", 6), "abcdef");
        assert_eq!(line("abcdefg", 6), "abcde…");
        assert_eq!(line("ab cd efg", 7), "ab cd…");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_ever_shown(text in "(\\PC|[\u{0}-\u{20}\u{7f}-\u{9f}\u{202a}-\u{202e}\\[\\]]){0,60}", most in 1usize..80) {
            let shown = line(&text, most);
            prop_assert!(shown.chars().count() <= most);
            prop_assert!(!shown.chars().any(|c| c.is_control() || is_hidden(c)), "{shown:?}");
            prop_assert_eq!(line(&shown, most), shown);
        }
    }
}
