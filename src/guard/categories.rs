//! Hazard categories: those a guard was trained on, and those an operator adds.
//!
//! Llama Guard has no category for a targeted escalation or for reinforced delusions, so two of
//! ours stand at the end of its list unless a policy file brings others:
//!
//! ```toml
//! list = "append"            # or "replace": leave the trained categories out
//!
//! [[category]]
//! id = "S20"
//! title = "Stalking"
//! description = "Watching, following or locating one person against their will."
//! risk = "harassment"        # or "delusion", or left out: named in the output, part of no arc
//! ```

use serde::{Deserialize, Serialize};

use super::GuardError;

/// The largest policy file, in bytes.
pub const POLICY_BYTES_MAX: usize = 1 << 20;
/// Categories of one policy file.
pub const CATEGORIES_MAX: usize = 64;
/// An id, in characters.
pub const ID_CHARS_MAX: usize = 16;
/// A title, in characters.
pub const TITLE_CHARS_MAX: usize = 80;
/// A description, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 1_000;

/// Which of the two arcs a category feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    Harassment,
    Delusion,
}

/// One category of a guard's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// The code the guard answers with.
    pub id: String,
    pub title: String,
    #[serde(default)]
    pub description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
}

impl Category {
    /// The entry in a list of titles: one line.
    pub fn line(&self) -> String {
        let Self { id, title, description, .. } = self;
        let stop = if title.ends_with(['.', '!', '?']) { "" } else { "." };
        let space = if description.is_empty() { "" } else { " " };
        format!("{id}: {title}{stop}{space}{description}")
    }
}

/// What becomes of the categories the guard was trained on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListMode {
    /// They stay in front.
    #[default]
    Append,
    /// They are left out. A guard may still answer with their codes.
    Replace,
}

/// The operator's categories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CategoryPolicy {
    #[serde(default)]
    pub list: ListMode,
    #[serde(rename = "category")]
    pub categories: Vec<Category>,
}

impl CategoryPolicy {
    /// Reads a policy file; `file` is its name in errors.
    ///
    /// # Errors
    /// When it is too large, not TOML, has unknown keys, or breaks a rule of [`CategoryPolicy::check`].
    pub fn from_toml(text: &str, file: &str) -> Result<Self, GuardError> {
        if text.len() > POLICY_BYTES_MAX {
            let found = text.len();
            return Err(GuardError::Categories(format!("{file}: {found} bytes, the limit is {POLICY_BYTES_MAX}")));
        }
        let policy: Self =
            crate::config::from_toml(text).map_err(|error| GuardError::Categories(format!("{file}: {error}")))?;
        policy.check(file)?;
        Ok(policy)
    }

    /// # Errors
    /// When there is no category, none with a risk, or too many; when an id is no code or is there
    /// twice; when a title is empty; when a text is too long, has a line end or a control
    /// character, or looks like a mark of the prompt's own structure.
    pub fn check(&self, file: &str) -> Result<(), GuardError> {
        let bad = |text: String| Err(GuardError::Categories(format!("{file}: {text}")));
        let count = self.categories.len();
        if count > CATEGORIES_MAX {
            return bad(format!("{count} categories, the limit is {CATEGORIES_MAX}"));
        }
        if !self.categories.iter().any(|category| category.risk.is_some()) {
            return bad(
                "no category has a `risk`; hint: give one risk = \"harassment\" or risk = \"delusion\"".to_owned()
            );
        }
        for (index, category) in self.categories.iter().enumerate() {
            let number = index + 1;
            if let Err(reason) = check_category(category) {
                return bad(format!("category {number}: {reason}"));
            }
            if let Some(before) = self.categories[..index].iter().position(|other| other.id == category.id) {
                let id = &category.id;
                return bad(format!(
                    "category {number}: id = \"{id}\" is category {}'s; hint: ids are unique",
                    before + 1
                ));
            }
        }
        Ok(())
    }

    /// What is read where the operator gives no policy: one category a risk, with the codes that
    /// follow the `trained` ones, whose codes begin with `letter`.
    pub fn default_for(letter: char, trained: usize) -> Self {
        let category = |number: usize, title: &str, description: &str, risk| Category {
            id: format!("{letter}{number}"),
            title: title.to_owned(),
            description: description.to_owned(),
            risk: Some(risk),
        };
        Self {
            list: ListMode::Append,
            categories: vec![
                category(
                    trained + 1,
                    "Targeted Harassment",
                    "Fixation on one particular person: watching, tracing, threatening, humiliating or punishing \
                     them, gathering their private details, or help with any of it.",
                    Risk::Harassment,
                ),
                category(
                    trained + 2,
                    "Delusion Reinforcement",
                    "Beliefs held against the evidence, such as persecution, hidden messages, a chosen role or a \
                     secret bond, and answers that confirm or feed them.",
                    Risk::Delusion,
                ),
            ],
        }
    }
}

fn check_category(category: &Category) -> Result<(), String> {
    let Category { id, title, description, .. } = category;
    let code = id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if !code || !id.starts_with(|c: char| c.is_ascii_alphabetic()) || id.len() > ID_CHARS_MAX {
        return Err(format!(
            "id = {id:?} is no code; hint: a letter, then letters, digits, `-` or `_`, at most {ID_CHARS_MAX} in all"
        ));
    }
    if title.trim().is_empty() {
        return Err(format!("title = {title:?} is empty"));
    }
    for (key, value, max) in [("title", title, TITLE_CHARS_MAX), ("description", description, DESCRIPTION_CHARS_MAX)] {
        let found = value.chars().count();
        if found > max {
            return Err(format!("{key} has {found} characters, the limit is {max}; hint: shorten it"));
        }
        // Of the private area those two that stand for messages while a template's own text is looked for.
        let is_unfit = |c: &char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{e000}' | '\u{e001}');
        if let Some(c) = value.chars().find(is_unfit) {
            return Err(format!("{key} = {value:?} has the character {c:?}; hint: write it on one line"));
        }
        for mark in ["<|", "|>", "[INST]", "[/INST]", "<<SYS>>", "<BEGIN ", "<END ", "<s>", "</s>"] {
            if value.contains(mark) {
                return Err(format!("{key} = {value:?} has `{mark}`, a mark of the prompt; hint: leave it out"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [[category]]
        id = "S20"
        title = "Stalking"
        description = "Watching one person."
        risk = "harassment"

        [[category]]
        id = "S21"
        title = "Fraud"
    "#;

    fn error(text: &str) -> String {
        CategoryPolicy::from_toml(text, "policy.toml").unwrap_err().to_string()
    }

    #[test]
    fn a_policy_file_is_read() {
        let policy = CategoryPolicy::from_toml(GOOD, "policy.toml").unwrap();
        assert_eq!(policy.list, ListMode::Append);
        assert_eq!(policy.categories[0].line(), "S20: Stalking. Watching one person.");
        assert_eq!(policy.categories[1].line(), "S21: Fraud.");
        assert_eq!(policy.categories.iter().map(|c| c.risk).collect::<Vec<_>>(), [Some(Risk::Harassment), None]);
    }

    #[test]
    fn what_is_wrong_is_told_with_file_key_value_and_hint() {
        let long = "x".repeat(1_001);
        for (text, parts) in [
            (GOOD.replace("S21", "S20"), &["category 2", "\"S20\"", "category 1", "hint"][..]),
            (GOOD.replace("S21", "S 21"), &["category 2", "\"S 21\"", "hint", "16"]),
            (GOOD.replace("\"Fraud\"", "\"\""), &["category 2", "title = \"\" is empty"]),
            (GOOD.replace("Watching one person.", &long), &["description", "1001", "1000", "hint"]),
            (GOOD.replace("one person", "one\\nperson"), &["description", "'\\n'", "hint"]),
            (GOOD.replace("one person", "\u{e000}0\u{e001}"), &["description", "'\\u{e000}'", "hint"]),
            (GOOD.replace("one person", "<|eot_id|>"), &["description", "`<|`", "hint"]),
            (GOOD.replace("risk = \"harassment\"", ""), &["no category has a `risk`", "hint"]),
            (GOOD.replace("risk = \"harassment\"", "risk = \"theft\""), &["theft", "line 6"]),
            (GOOD.replace("title = \"Fraud\"", "titel = \"Fraud\""), &["titel"]),
            ("list = 3".to_owned(), &["line 1"]),
            ("#".repeat(POLICY_BYTES_MAX + 1), &["1048577", "1048576"]),
        ] {
            let error = error(&text);
            assert!(error.contains("policy.toml"), "{error}");
            for part in parts {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
        }
    }

    #[test]
    fn too_many_categories_are_refused() {
        let one = |n: usize| format!("[[category]]\nid = \"X{n}\"\ntitle = \"t\"\nrisk = \"delusion\"\n");
        let text: String = (0..=CATEGORIES_MAX).map(one).collect();
        assert!(error(&text).contains("65 categories, the limit is 64"));
    }

    #[test]
    fn the_default_policy_keeps_its_own_rules() {
        let policy = CategoryPolicy::default_for('S', 14);
        policy.check("default").unwrap();
        assert_eq!(policy.categories.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["S15", "S16"]);
    }
}
