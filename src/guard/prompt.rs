//! From a rendered template to token ids, with message text kept out of the reach of control tokens.
//!
//! A template is rendered twice: with the messages, and with a placeholder for each. The second
//! rendering says which stretches the template wrote and which the messages; filling in the
//! messages must give the first one, or the template did something with a message that is not
//! understood, and that is an error. Control tokens are looked for in the template's stretches
//! alone. The text between two of them, template and messages together, is tokenised in one piece:
//! a message without control text gets exactly the ids that Hugging Face gives it.

use super::template::strip;
use super::{GuardError, Tokenize};

/// A stretch of a rendered prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stretch {
    /// Written by the template: control tokens count.
    Template(String),
    /// Written by a message: text, whatever it says.
    Content(String),
}

impl Stretch {
    fn text(&self) -> &str {
        let (Stretch::Template(text) | Stretch::Content(text)) = self;
        text
    }
}

/// What stands for message `index` while the template's own stretches are looked for. Characters of
/// a private area: no template strips, splits or changes them.
pub(super) fn placeholder(index: usize) -> String {
    format!("\u{e000}{index}\u{e001}")
}

/// Divides `marked`, a rendering with placeholders, and fills in `contents`; `real` is the
/// rendering with the contents themselves, which may have stripped them.
pub(super) fn divide(marked: &str, real: &str, contents: &[String]) -> Result<Vec<Stretch>, GuardError> {
    for stripped in [false, true] {
        let filled = fill(marked, contents, stripped)?;
        if same_text(&filled, real) {
            return Ok(filled);
        }
    }
    Err(GuardError::Template(
        "the template changes messages in a way that cannot be followed; hint: use the built-in template of the family"
            .into(),
    ))
}

fn fill(marked: &str, contents: &[String], stripped: bool) -> Result<Vec<Stretch>, GuardError> {
    let mut stretches = Vec::new();
    let mut rest = marked;
    while let Some((before, after)) = rest.split_once('\u{e000}') {
        let content = after.split_once('\u{e001}').and_then(|(number, after)| {
            let content = contents.get(number.parse::<usize>().ok()?)?;
            Some((content, after))
        });
        let Some((content, after)) = content else {
            return Err(GuardError::Template("the template has characters of the private area U+E000".into()));
        };
        let content = if stripped { strip(content, None, true, true) } else { content };
        stretches.push(Stretch::Template(before.to_owned()));
        stretches.push(Stretch::Content(content.to_owned()));
        rest = after;
    }
    stretches.push(Stretch::Template(rest.to_owned()));
    Ok(stretches)
}

fn same_text(stretches: &[Stretch], text: &str) -> bool {
    let mut rest = Some(text);
    for stretch in stretches {
        rest = rest.and_then(|rest| rest.strip_prefix(stretch.text()));
    }
    rest == Some("")
}

/// The token ids of a prompt.
pub(super) fn encode(stretches: &[Stretch], tokenizer: &dyn Tokenize) -> Vec<u32> {
    // Where two control tokens begin at one place the longer one counts, as in `tokenizers`.
    let mut controls: Vec<(&str, u32)> =
        tokenizer.control_tokens().iter().map(|(text, id)| (text.as_str(), *id)).collect();
    controls.retain(|(text, _)| !text.is_empty());
    controls.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));

    let mut tokens = Vec::new();
    let mut run = String::new();
    for stretch in stretches {
        let mut rest = match stretch {
            Stretch::Content(text) => {
                run.push_str(text);
                continue;
            }
            Stretch::Template(text) => text.as_str(),
        };
        while let Some(c) = rest.chars().next() {
            if let Some((control, id)) = controls.iter().find(|(control, _)| rest.starts_with(control)) {
                flush(&mut run, tokenizer, &mut tokens);
                tokens.push(*id);
                rest = &rest[control.len()..];
            } else {
                run.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    flush(&mut run, tokenizer, &mut tokens);
    tokens
}

fn flush(run: &mut String, tokenizer: &dyn Tokenize, tokens: &mut Vec<u32>) {
    if !run.is_empty() {
        tokens.extend(tokenizer.encode_text(run));
        run.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_changes_messages_is_refused() {
        let contents = ["Hello".to_owned()];
        let marked = format!("<{}>", placeholder(0));
        assert!(divide(&marked, "<Hello>", &contents).is_ok());
        let error = divide(&marked, "<HELLO>", &contents).unwrap_err().to_string();
        assert!(error.contains("hint"), "{error}");
    }

    #[test]
    fn of_control_tokens_at_one_place_the_longest_counts() {
        struct Letters(std::collections::BTreeMap<String, u32>);
        impl Tokenize for Letters {
            fn encode_text(&self, text: &str) -> Vec<u32> {
                text.chars().map(u32::from).collect()
            }

            fn control_tokens(&self) -> &std::collections::BTreeMap<String, u32> {
                &self.0
            }
        }
        let controls = [("<a>", 1_000), ("<a><b>", 1_001)].map(|(text, id)| (text.to_owned(), id));
        let stretches = [Stretch::Template("<a><b>x<a>".into()), Stretch::Content("<a>".into())];
        let tokens = encode(&stretches, &Letters(controls.into()));
        let letters = "<a>".chars().map(u32::from);
        assert_eq!(tokens, [1_001, u32::from('x'), 1_000].into_iter().chain(letters).collect::<Vec<_>>());
    }

    #[test]
    fn a_template_may_strip_repeat_and_leave_out_messages() {
        let contents = [" a ".to_owned(), "b".to_owned()];
        let marked = format!("1{}2{}3", placeholder(0), placeholder(0));
        let stretches = divide(&marked, "1a2a3", &contents).unwrap();
        assert_eq!(stretches.iter().filter(|s| **s == Stretch::Content("a".into())).count(), 2);
    }
}
