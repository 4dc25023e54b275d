//! Llama Guard 1, 2, 3-8B and 3-1B: a conversation written into a safety policy.
//!
//! ```text
//! <|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nTask: … 'Agent' messages …
//! <BEGIN UNSAFE CONTENT CATEGORIES>\nS1: …\n…\n<END UNSAFE CONTENT CATEGORIES>\n\n
//! <BEGIN CONVERSATION>\n\nUser: …\n\nAgent: …\n\n<END CONVERSATION>\n\n…<|eot_id|>…assistant…   ^ verdict here
//! ```
//!
//! The model's own chat template is run. Where it carries none, or one for chatting, a built-in one
//! of its family's shape is (`llama_guard/*.jinja`, our words). Categories of ours are written into
//! the list the template made, or given to it where it asks for `categories`.
//!
//! The last message is judged. Roles must alternate beginning with the user: neighbours of one role
//! become one turn, and a conversation that begins with the assistant gets a short user turn that
//! says so; both are reported. Text in messages that imitates the prompt's structure is broken
//! visibly ([`super::neutralise`]) and counted.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde::{Deserialize, Serialize as DeriveSerialize};

use super::categories::{Category, CategoryPolicy, ListMode};
use super::prompt::{Stretch, divide, encode, placeholder};
use super::template::ChatTemplate;
use super::{GuardError, Tokenize, neutralise};
use crate::transcript::Role;

/// Stands in front of a conversation that the assistant began.
const LED_BY_ASSISTANT: &str = "[conversation started by the assistant]";
const LIST_BEGIN: &str = "<BEGIN UNSAFE CONTENT CATEGORIES>";
const LIST_END: &str = "<END UNSAFE CONTENT CATEGORIES>";

/// A generation of Llama Guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, DeriveSerialize, Deserialize)]
pub enum Family {
    #[serde(rename = "llama-guard-1")]
    LlamaGuard1,
    #[serde(rename = "llama-guard-2")]
    LlamaGuard2,
    #[serde(rename = "llama-guard-3-8b")]
    LlamaGuard3Large,
    #[serde(rename = "llama-guard-3-1b")]
    LlamaGuard3Small,
}

impl Family {
    pub const ALL: [Self; 4] = [Self::LlamaGuard1, Self::LlamaGuard2, Self::LlamaGuard3Large, Self::LlamaGuard3Small];

    /// The name that settings use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LlamaGuard1 => "llama-guard-1",
            Self::LlamaGuard2 => "llama-guard-2",
            Self::LlamaGuard3Large => "llama-guard-3-8b",
            Self::LlamaGuard3Small => "llama-guard-3-1b",
        }
    }

    /// The family of a name that settings use.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.as_str() == name)
    }

    /// The family of a model: by its chat template, else by its name; `None` when neither tells.
    pub fn detect(template: Option<&str>, model_name: &str) -> Option<Self> {
        let by_template = template.filter(|source| is_guard_template(source)).and_then(|source| {
            if source.contains("excluded_category_keys") {
                Some(Self::LlamaGuard3Small)
            } else if source.contains("<|start_header_id|>") {
                Some(Self::LlamaGuard3Large)
            } else if source.contains("ONLY THE LAST") || source.contains("S11") {
                Some(Self::LlamaGuard2)
            } else if source.contains("O1") {
                Some(Self::LlamaGuard1)
            } else {
                None
            }
        });
        by_template.or_else(|| Self::from_model_name(model_name))
    }

    fn from_model_name(name: &str) -> Option<Self> {
        let plain: String = name.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
        let (_, version) = plain.split_once("llamaguard")?;
        match version {
            _ if version.starts_with("7b") || version.starts_with("17b") => Some(Self::LlamaGuard1),
            _ if version.starts_with('2') => Some(Self::LlamaGuard2),
            _ if version.starts_with("31b") => Some(Self::LlamaGuard3Small),
            _ if version.starts_with("38b") => Some(Self::LlamaGuard3Large),
            _ => None,
        }
    }

    fn built_in_template(self) -> &'static str {
        match self {
            Self::LlamaGuard1 => include_str!("llama_guard/family1.jinja"),
            Self::LlamaGuard2 => include_str!("llama_guard/family2.jinja"),
            Self::LlamaGuard3Large => include_str!("llama_guard/family3_8b.jinja"),
            Self::LlamaGuard3Small => include_str!("llama_guard/family3_1b.jinja"),
        }
    }

    /// The letter its category codes begin with, and how many categories it was trained on.
    fn trained_codes(self) -> (char, usize) {
        match self {
            Self::LlamaGuard1 => ('O', 6),
            Self::LlamaGuard2 => ('S', 11),
            Self::LlamaGuard3Large => ('S', 14),
            Self::LlamaGuard3Small => ('S', 13),
        }
    }
}

/// Whether a chat template writes a safety policy: quantised files often carry the base model's.
fn is_guard_template(source: &str) -> bool {
    source.contains("UNSAFE CONTENT CATEGORIES") && source.contains("BEGIN CONVERSATION")
}

/// What a guard is made from.
#[derive(Debug, Clone, Copy, Default)]
pub struct GuardSettings<'a> {
    /// The model's own chat template.
    pub template: Option<&'a str>,
    /// The model's name, to tell the family where the template does not.
    pub model_name: &'a str,
    /// Takes precedence over what template and name say.
    pub family: Option<Family>,
    /// The operator's categories; `None` takes [`CategoryPolicy::default_for`].
    pub policy: Option<&'a CategoryPolicy>,
}

/// One message as it goes into a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardMessage {
    /// [`Role::User`] or [`Role::Assistant`]; anything else is written as the user's.
    pub role: Role,
    /// A line of ours in front of the text, such as a session's beginning.
    pub note: Option<String>,
    pub content: String,
    /// The text goes on from the message before, without a break: parts of a long message. Such a
    /// message goes through [`super::neutralise`] before it is cut, for a mark may stand across the cut.
    pub continues: bool,
}

/// A prompt as token ids, its verdict to be read after the last, and what it took to write it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuardPrompt {
    pub tokens: Vec<u32>,
    /// Messages that share a turn with the message before them.
    pub merged_messages: usize,
    /// Places where a message imitated the prompt's structure and was broken visibly.
    pub neutralised_marks: usize,
    /// Whether a user turn had to be put in front.
    pub led_by_assistant: bool,
}

/// A Llama Guard, ready to write prompts.
#[derive(Debug, Clone)]
pub struct LlamaGuard {
    family: Family,
    template: ChatTemplate,
    built_in: bool,
    policy: CategoryPolicy,
    /// Trained codes that stay in the list, then the policy's.
    codes: Vec<String>,
    bos_token: String,
    eos_token: String,
}

/// One turn after merging: the text a template gets.
struct Turn {
    role: Role,
    content: String,
}

impl LlamaGuard {
    /// # Errors
    /// When the family is unknown, the template is broken, or the policy breaks its rules or uses
    /// a code that the family was trained on.
    pub fn new(settings: GuardSettings, tokenizer: &dyn Tokenize) -> Result<Self, GuardError> {
        let detected = settings.family.or_else(|| Family::detect(settings.template, settings.model_name));
        let family = detected.ok_or_else(|| {
            let names: Vec<&str> = Family::ALL.iter().map(|family| family.as_str()).collect();
            GuardError::Template(format!(
                "the guard family of `{}` is unknown; hint: name one of {}",
                settings.model_name,
                names.join(", ")
            ))
        })?;
        let own = settings.template.filter(|source| is_guard_template(source));
        let (letter, trained) = family.trained_codes();
        let policy = match settings.policy {
            Some(policy) => policy.clone(),
            None => CategoryPolicy::default_for(letter, trained),
        };
        policy.check("category policy")?;
        let trained: Vec<String> = (1..=trained).map(|number| format!("{letter}{number}")).collect();
        let mut codes = if policy.list == ListMode::Append { trained } else { Vec::new() };
        for category in &policy.categories {
            if codes.contains(&category.id) {
                let (id, family) = (&category.id, family.as_str());
                return Err(GuardError::Categories(format!(
                    "id = \"{id}\" is a category of {family} itself; hint: use another code, or list = \"replace\""
                )));
            }
            codes.push(category.id.clone());
        }
        let control = |names: &[&str]| {
            names.iter().find(|name| tokenizer.control_tokens().contains_key(**name)).map_or("", |name| name).to_owned()
        };
        Ok(Self {
            family,
            template: ChatTemplate::new(own.unwrap_or(family.built_in_template()))?,
            built_in: own.is_none(),
            policy,
            codes,
            bos_token: control(&["<|begin_of_text|>", "<s>"]),
            eos_token: control(&["<|eot_id|>", "<|end_of_text|>", "</s>"]),
        })
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// Whether a built-in template stands in for the model's own.
    pub fn uses_built_in_template(&self) -> bool {
        self.built_in
    }

    /// Every code the guard may answer with, the operator's last.
    pub fn codes(&self) -> &[String] {
        &self.codes
    }

    /// The operator's categories, or the default ones.
    pub fn custom_categories(&self) -> &[Category] {
        &self.policy.categories
    }

    /// Writes the prompt that asks about the last of the messages.
    ///
    /// # Errors
    /// When there is no message, or the template fails or changes messages in an unknown way.
    pub fn prompt(&self, messages: &[GuardMessage], tokenizer: &dyn Tokenize) -> Result<GuardPrompt, GuardError> {
        if messages.is_empty() {
            return Err(GuardError::Template("a prompt needs a message".into()));
        }
        let mut prompt = GuardPrompt::default();
        let turns = turns(messages, &mut prompt);
        let contents: Vec<String> = turns.iter().map(|turn| turn.content.clone()).collect();
        let marks: Vec<String> = (0..turns.len()).map(placeholder).collect();
        let real = self.render(&turns, &contents)?;
        let marked = self.render(&turns, &marks)?;
        let mut stretches = divide(&marked, &real, &contents)?;
        self.write_categories(&mut stretches)?;
        prompt.tokens = encode(&stretches, tokenizer);
        Ok(prompt)
    }

    fn gives_categories(&self) -> bool {
        self.policy.list == ListMode::Replace && self.template.reads("categories")
    }

    fn render(&self, turns: &[Turn], contents: &[String]) -> Result<String, GuardError> {
        let messages = turns.iter().zip(contents).map(|(turn, content)| TemplateMessage {
            role: turn.role.as_str(),
            content: match self.family {
                Family::LlamaGuard3Small => Content::Parts([Part { r#type: "text", text: content }]),
                _ => Content::Text(content),
            },
        });
        self.template.render(Variables {
            messages: messages.collect(),
            bos_token: &self.bos_token,
            eos_token: &self.eos_token,
            add_generation_prompt: true,
            categories: self.gives_categories().then_some(Listed(&self.policy.categories)),
        })
    }

    /// Writes the policy's categories into the list that the template wrote.
    fn write_categories(&self, stretches: &mut [Stretch]) -> Result<(), GuardError> {
        if self.gives_categories() {
            return Ok(());
        }
        let list = stretches.iter_mut().find_map(|stretch| match stretch {
            Stretch::Template(text) => {
                let begin = text.find(LIST_BEGIN)? + LIST_BEGIN.len();
                let end = begin + text[begin..].find(LIST_END)?;
                Some((text, begin, end))
            }
            Stretch::Content(_) => None,
        });
        let Some((text, begin, end)) = list else {
            return Err(GuardError::Template(format!(
                "no category list between `{LIST_BEGIN}` and `{LIST_END}`; hint: this template is not of the family {}",
                self.family.as_str()
            )));
        };
        let lines: Vec<String> = self.policy.categories.iter().map(|category| self.entry(category)).collect();
        let trained = text[begin..end].trim_end_matches('\n');
        let kept = if self.policy.list == ListMode::Append { trained } else { "" };
        let new = format!("{kept}\n{}\n", lines.join("\n"));
        text.replace_range(begin..end, &new);
        Ok(())
    }

    /// A category as the family lists it: on one line, or the description below the title.
    fn entry(&self, category: &Category) -> String {
        match self.family {
            Family::LlamaGuard1 | Family::LlamaGuard2 if !category.description.is_empty() => {
                let title = Category { description: String::new(), ..category.clone() };
                format!("{}\n{}", title.line(), category.description)
            }
            _ => category.line(),
        }
    }
}

/// Messages as turns that alternate, beginning with the user.
fn turns(messages: &[GuardMessage], prompt: &mut GuardPrompt) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::with_capacity(messages.len() + 1);
    for message in messages {
        let role = if message.role == Role::Assistant { Role::Assistant } else { Role::User };
        let (text, marks) = neutralise(&message.content);
        prompt.neutralised_marks += marks;
        let text = match &message.note {
            Some(note) => format!("{note}\n{text}"),
            None => text,
        };
        if turns.is_empty() && role == Role::Assistant {
            prompt.led_by_assistant = true;
            turns.push(Turn { role: Role::User, content: LED_BY_ASSISTANT.to_owned() });
        }
        match turns.last_mut().filter(|turn| turn.role == role) {
            Some(turn) => {
                if !message.continues {
                    prompt.merged_messages += 1;
                    turn.content.push_str("\n\n");
                }
                turn.content.push_str(&text);
            }
            None => turns.push(Turn { role, content: text }),
        }
    }
    turns
}

/// What a template sees.
#[derive(DeriveSerialize)]
struct Variables<'a> {
    messages: Vec<TemplateMessage<'a>>,
    bos_token: &'a str,
    eos_token: &'a str,
    add_generation_prompt: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    categories: Option<Listed<'a>>,
}

#[derive(DeriveSerialize)]
struct TemplateMessage<'a> {
    role: &'a str,
    content: Content<'a>,
}

#[derive(DeriveSerialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    Parts([Part<'a>; 1]),
}

#[derive(DeriveSerialize)]
struct Part<'a> {
    r#type: &'a str,
    text: &'a str,
}

/// Categories as a map from code to text, in their order.
struct Listed<'a>(&'a [Category]);

impl Serialize for Listed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for category in self.0 {
            let line = category.line();
            let text = line.strip_prefix(&format!("{}: ", category.id)).unwrap_or(&line);
            map.serialize_entry(&category.id, text.trim_end_matches('.'))?;
        }
        map.end()
    }
}
