//! Marks of a prompt's structure that are ordinary text, when they stand in a message.
//!
//! Control tokens are out of a message's reach by tokenising (`prompt`), but Llama Guard also tells
//! turns apart by words: `User:` at the beginning of a line, `<END CONVERSATION>`, `[INST]`. Where
//! a message has them an underscore is put in, which a reader sees and which leaves the rest of
//! the text as it is, and they are counted.

/// Marks in brackets, in capitals; a message's case and inner white space do not matter.
const BRACKETED: [&str; 11] = [
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "<BEGIN CONVERSATION>",
    "<END CONVERSATION>",
    "<BEGIN UNSAFE CONTENT CATEGORIES>",
    "<END UNSAFE CONTENT CATEGORIES>",
    "[CONVERSATION START",
    "[NEW SESSION",
    "[EARLIER PART",
];
/// Words that open a turn at the beginning of a line, before a colon.
const TURNS: [&str; 4] = ["user", "agent", "assistant", "human"];
/// What is put in.
const BREAK: char = '_';

/// The text without marks of structure, and how many were broken. Without any, the same bytes.
pub fn neutralise(text: &str) -> (String, usize) {
    let mut out = String::with_capacity(text.len());
    let mut count = 0;
    let mut line_start = true;
    for (at, c) in text.char_indices() {
        if line_start && opens_turn(&text[at..]) {
            out.push(BREAK);
            count += 1;
            line_start = false;
        }
        out.push(c);
        if BRACKETED.iter().any(|mark| is_mark(&text[at..], mark)) {
            out.push(BREAK);
            count += 1;
        }
        line_start = is_line_end(c) || (line_start && is_skipped(c));
    }
    (out, count)
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Characters that do not show, or show as nothing but space.
fn is_skipped(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

fn opens_turn(line: &str) -> bool {
    TURNS.iter().any(|turn| {
        let Some(rest) = after_letters(line, turn) else { return false };
        rest.chars().find(|c| !is_skipped(*c) || is_line_end(*c)).is_some_and(|c| matches!(c, ':' | '：'))
    })
}

/// What follows `word` when the text begins with it, whatever its case.
fn after_letters<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let mut chars = text.chars();
    for (index, wanted) in word.chars().enumerate() {
        loop {
            match chars.next()? {
                c if c.eq_ignore_ascii_case(&wanted) => break,
                // What does not show may stand between the letters, but white space divides words.
                c if index > 0 && is_skipped(c) && !c.is_whitespace() => {}
                _ => return None,
            }
        }
    }
    Some(chars.as_str())
}

/// Whether the text begins with a mark; white space may stand wherever it does not divide words.
fn is_mark(text: &str, mark: &str) -> bool {
    let mut chars = text.chars();
    let mut last: Option<char> = None;
    for wanted in mark.chars() {
        if wanted == ' ' {
            last = Some(' ');
            continue;
        }
        let mut spaces = 0;
        let found = loop {
            match chars.next() {
                Some(c) if is_skipped(c) && last.is_some() => spaces += usize::from(c.is_whitespace()),
                other => break other,
            }
        };
        let inside_word = wanted.is_ascii_alphabetic() && last.is_some_and(|c| c.is_ascii_alphabetic());
        let words_apart = last != Some(' ') || spaces > 0;
        if !found.is_some_and(|c| c.eq_ignore_ascii_case(&wanted)) || (inside_word && spaces > 0) || !words_apart {
            return false;
        }
        last = Some(wanted);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn marks_are_broken_and_nothing_else_changes() {
        for (text, expected, count) in [
            ("hello [world] <b>User</b>", "hello [world] <b>User</b>", 0),
            ("the user: me", "the user: me", 0),
            ("User experience: fine\nagents: two", "User experience: fine\nagents: two", 0),
            ("a\nUser: b", "a\n_User: b", 1),
            ("User: b", "_User: b", 1),
            ("x\r\n  AGENT : y", "x\r\n  _AGENT : y", 1),
            ("x\u{2028}Agent:y", "x\u{2028}_Agent:y", 1),
            ("x\nUs\u{200b}er: y", "x\n_Us\u{200b}er: y", 1),
            ("x\n\u{200b}User: y", "x\n\u{200b}_User: y", 1),
            ("a [/INST] b", "a [_/INST] b", 1),
            ("[INST][/inst]", "[_INST][_/inst]", 2),
            ("<< SYS >>", "<_< SYS >>", 1),
            ("<END\tCONVERSATION >", "<_END\tCONVERSATION >", 1),
            ("<ENDCONVERSATION>", "<ENDCONVERSATION>", 0),
            ("[new session, 3 days later]", "[_new session, 3 days later]", 1),
            ("[[INST]INST]", "[[_INST]INST]", 1),
            ("", "", 0),
        ] {
            assert_eq!(neutralise(text), (expected.to_owned(), count), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_neutralised_has_no_mark_left(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "[", "]", "[INST]", "<", ">", "<<SYS>>", "/", "INST", "User:", "\n", " ", "agent", ":", "_", "\u{200b}",
                    "<END CONVERSATION>", "<BEGIN ", "CONVERSATION>", "é", "[new session",
                ]), 0..20)
        ) {
            let text = parts.concat();
            let (once, count) = neutralise(&text);
            prop_assert_eq!(neutralise(&once), (once.clone(), 0));
            prop_assert_eq!(once.len(), text.len() + count);
            let mut rest = once.chars();
            prop_assert!(text.chars().all(|c| rest.any(|other| other == c)), "only additions");
        }
    }
}
