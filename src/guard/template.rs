//! Chat templates: the Jinja of Hugging Face tokenizer configurations, run as transformers runs it.
//!
//! minijinja with what `transformers.utils.chat_template_utils` sets: `trim_blocks`,
//! `lstrip_blocks`, loop controls, Python's string methods, `raise_exception`, `strftime_now`, and
//! a `tojson` that writes as Python's `json.dumps(…, ensure_ascii=False)`. No HTML escaping. A
//! template comes with a model and is not trusted: its work, source and output are limited, and it
//! sees neither files nor the clock. Memory is not: a text that is put before itself thirty times over is
//! few instructions. `tests/guard_templates.rs` compares with transformers.

use std::fmt::Write as _;
use std::io::{self, Write};

use minijinja::formatting::{self, FormatStyle};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Serde, StringInput, Value, ValueKind, from_args};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, filters};

use super::GuardError;

/// The largest template source, in bytes.
const SOURCE_BYTES_MAX: usize = 1 << 20;
/// The largest rendered prompt, in bytes.
const RENDERED_BYTES_MAX: usize = 16 << 20;
/// The widest indentation that a template may ask for, in characters: any is written in one instruction.
const INDENT_MAX: usize = 100;
/// The widest field and precision; years in a text that has fields are less.
const FIELD_MAX: usize = 9_999;
/// Instructions that one rendering may execute: some 25 a message.
const FUEL: u64 = 250_000;
/// The stack of a rendering, in bytes, of which it takes what it needs: values that lie in one another are written and let go by calls
/// in one another, and an instruction can add a level.
const STACK_BYTES: usize = 512 << 20;
/// What `strftime_now` reads: a fixed day, so that a score does not depend on when it is made.
/// It is the day that Llama 3 templates name when they are given none.
const NOW: &str = "2024-07-26T00:00:00Z";

/// A compiled chat template.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// # Errors
    /// When the source is too large or no template.
    pub fn new(source: &str) -> Result<Self, GuardError> {
        if source.len() > SOURCE_BYTES_MAX {
            let (found, max) = (source.len(), SOURCE_BYTES_MAX);
            return Err(GuardError::Template(format!(
                "{found} bytes, the limit is {max}; hint: this is not a chat template"
            )));
        }
        let mut environment = environment();
        // Jinja2 reads every kind of line end as `\n`.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        environment.add_template_owned("chat", source).map_err(|error| describe(&error))?;
        Ok(Self { environment })
    }

    /// Renders with these variables, something that serialises as a map.
    ///
    /// # Errors
    /// When the template raises, fails, works for too long or writes too much.
    pub fn render(&self, variables: impl serde::Serialize) -> Result<String, GuardError> {
        let variables = Value::from(Serde(variables));
        let rendered = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("template".into()).stack_size(STACK_BYTES);
            let thread = thread.spawn_scoped(scope, || self.written(variables));
            // minijinja 3.0.5 panics at the reverse of an empty list (`[][::-1]`); a model's files must not end the process.
            thread.map(|thread| thread.join())
        });
        let failed =
            |what: &str| GuardError::Template(format!("{what}; hint: name a family to use a built-in template"));
        match rendered {
            Ok(Ok(rendered)) => rendered,
            Ok(Err(_)) => Err(failed("the template engine failed")),
            Err(error) => Err(failed(&format!("no thread to render in ({error})"))),
        }
    }

    fn written(&self, variables: Value) -> Result<String, GuardError> {
        let template = self.environment.get_template("chat").map_err(|error| describe(&error))?;
        let mut out = Bounded(Vec::new());
        template.render_captured_to(variables, &mut out).map_err(|error| match out.0.len() {
            // The writer's own error is told as one of the template's.
            RENDERED_BYTES_MAX => GuardError::Template(format!("more than {RENDERED_BYTES_MAX} bytes are written")),
            _ => describe(&error),
        })?;
        String::from_utf8(out.0).map_err(|_| GuardError::Template("what is written is no UTF-8".into()))
    }

    /// Whether the template reads this variable.
    pub fn reads(&self, variable: &str) -> bool {
        self.environment.get_template("chat").is_ok_and(|chat| chat.undeclared_variables(false).contains(variable))
    }
}

/// Takes what is written, up to a limit.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = RENDERED_BYTES_MAX - self.0.len();
        self.0.extend(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room { Err(io::Error::other("too much")) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // The default delimiters, which the builder cannot refuse.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(python_method);
    environment.add_filter("trim", |text: &str, chars: Option<&str>| strip(text, chars, true, true).to_owned());
    environment.add_filter("tojson", to_json);
    environment.add_filter("format", |text: &str, args: Rest<Value>| {
        fields_fit(text)?;
        formatting::format(FormatStyle::Printf, text, &args)
    });
    environment.add_filter("indent", indent);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: &str| -> Result<String, Error> {
        let now: jiff::Timestamp = NOW.parse().map_err(|error| invalid(&error))?;
        jiff::fmt::strtime::format(format, now).map_err(|error| invalid(&error))
    });
    environment
}

fn invalid(error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidOperation, error.to_string())
}

fn describe(error: &Error) -> GuardError {
    let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    GuardError::Template(match error.line() {
        Some(line) => format!("line {line}: {reason}"),
        None => reason,
    })
}

/// Whether Python's `str.isspace` holds: Unicode's white space and the four separators U+001C…1F.
pub(super) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Python's `strip`, `lstrip` and `rstrip`.
pub(super) fn strip<'a>(text: &'a str, chars: Option<&str>, start: bool, end: bool) -> &'a str {
    let out = |c: char| chars.map_or_else(|| is_python_space(c), |chars| chars.contains(c));
    let text = if start { text.trim_start_matches(out) } else { text };
    if end { text.trim_end_matches(out) } else { text }
}

/// Python's methods: what differs from minijinja's own port of them, then that port.
fn python_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let (ValueKind::String, Some(text)) = (value.kind(), value.as_str()) {
        match method {
            "strip" | "lstrip" | "rstrip" => {
                let (chars,): (Option<&str>,) = from_args(args)?;
                return Ok(Value::from(strip(text, chars, method != "rstrip", method != "lstrip")));
            }
            "split" if args.is_empty() => {
                let words = text.split(is_python_space).filter(|word| !word.is_empty());
                return Ok(words.map(Value::from).collect());
            }
            "format" => fields_fit(text)?,
            "removeprefix" | "removesuffix" => {
                let (cut,): (&str,) = from_args(args)?;
                let rest = if method == "removeprefix" { text.strip_prefix(cut) } else { text.strip_suffix(cut) };
                return Ok(Value::from(rest.unwrap_or(text)));
            }
            _ => {}
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

/// `json.dumps(x, ensure_ascii=…, indent=…, sort_keys=…)` as transformers' `tojson`.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent = options.get::<Option<usize>>("indent")?;
    indent.map_or(Ok(()), |width| fits(width, INDENT_MAX))?;
    let style = JsonStyle {
        indent,
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    let mut out = String::new();
    style.write(value, 0, &mut out)?;
    Ok(out)
}

/// minijinja's own, of bounded width.
fn indent(
    text: StringInput<'_>,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    options: Kwargs,
) -> Result<Value, Error> {
    let named = options.get::<Option<usize>>("width")?;
    width.or(named).map_or(Ok(()), |width| fits(width, INDENT_MAX))?;
    filters::indent(text, width, first, blank, options)
}

/// Whether a text for Python's `%` or `format` asks for no field or precision that is too wide.
fn fields_fit(text: &str) -> Result<(), Error> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    numbers.try_for_each(|digits| fits(digits.parse().unwrap_or(usize::MAX), FIELD_MAX))
}

fn fits(width: usize, max: usize) -> Result<(), Error> {
    if width <= max {
        return Ok(());
    }
    Err(invalid(&format!("a width of {width} characters, the limit is {max}")))
}

struct JsonStyle {
    indent: Option<usize>,
    ascii: bool,
    sort: bool,
}

impl JsonStyle {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if out.len() > RENDERED_BYTES_MAX {
            return Err(invalid(&format!("tojson writes more than {RENDERED_BYTES_MAX} bytes")));
        }
        match (value.kind(), value.as_str()) {
            (ValueKind::String, Some(text)) => self.string(text, out),
            (ValueKind::None, _) => out.push_str("null"),
            (ValueKind::Bool, _) => out.push_str(if value.is_true() { "true" } else { "false" }),
            (ValueKind::Number, _) => out.push_str(&value.to_string()),
            (ValueKind::Seq | ValueKind::Iterable, _) => {
                let items = value.try_iter()?.map(|item| (None, item)).collect();
                self.block(['[', ']'], items, depth, out)?;
            }
            (ValueKind::Map, _) => {
                let mut entries = Vec::new();
                for key in value.try_iter()? {
                    let item = value.get_item(&key)?;
                    entries.push((Some(key.to_string()), item));
                }
                if self.sort {
                    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.block(['{', '}'], entries, depth, out)?;
            }
            (kind, _) => return Err(invalid(&format!("{kind} cannot be written as JSON"))),
        }
        Ok(())
    }

    fn block(
        &self,
        [open, close]: [char; 2],
        items: Vec<(Option<String>, Value)>,
        depth: usize,
        out: &mut String,
    ) -> Result<(), Error> {
        out.push(open);
        let empty = items.is_empty();
        for (index, (key, item)) in items.into_iter().enumerate() {
            if index > 0 {
                out.push_str(if self.indent.is_some() { "," } else { ", " });
            }
            self.line(depth + 1, out);
            if let Some(key) = key {
                self.string(&key, out);
                out.push_str(": ");
            }
            self.write(&item, depth + 1, out)?;
        }
        if !empty {
            self.line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    fn line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(source: &str, variables: serde_json::Value) -> Result<String, GuardError> {
        ChatTemplate::new(source)?.render(&variables)
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let source = "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = a %}{% endfor %}{% endfor %}";
        let error = render(source, json!({})).unwrap_err().to_string();
        assert!(error.contains("fuel"), "{error}");
    }

    #[test]
    fn a_template_fills_no_field_beyond_a_limit() {
        for (source, written) in [
            ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
            ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
            ("{{ '%-3s|' | format('a') }}", "a  |"),
            ("{{ 'in 2024: {:>3}'.format('a') }}", "in 2024:   a"),
        ] {
            assert_eq!(render(source, json!({})).unwrap(), written);
        }
        for source in [
            "{{ [[1]] | tojson(indent=18446744073709551615) }}",
            "{{ 'a\nb' | indent(18446744073709551615) }}",
            "{{ 'a\nb' | indent(width=18446744073709551615) }}",
            "{{ '%18446744073709551615s' | format('a') }}",
            "{{ '%.18446744073709551615f' | format(1.5) }}",
            "{{ '{:>18446744073709551615}'.format('a') }}",
        ] {
            let error = render(source, json!({})).unwrap_err().to_string();
            assert!(error.contains("18446744073709551615") && error.contains("limit"), "{source}: {error}");
        }
    }

    #[test]
    fn values_that_lie_in_one_another_end_no_process() {
        let nested = |written: &str| {
            format!(
                "{{% set ns = namespace(x=1) %}}{{% for i in range(8000) %}}{{% set ns.x = {}ns.x{} %}}{{% endfor %}}{written}",
                "[".repeat(20),
                "]".repeat(20)
            )
        };
        assert_eq!(render(&nested("x"), json!({})).unwrap(), "x");
        assert!(render(&nested("{{ ns.x }}"), json!({})).unwrap().starts_with("[["));
        assert!(render(&nested("{{ ns.x | tojson }}"), json!({})).unwrap().starts_with("[["));
    }

    #[test]
    fn a_value_of_itself_twice_writes_no_more_than_the_limit() {
        let doubled = |written: &str| {
            format!(
                "{{% set ns = namespace(x=1) %}}{{% for i in range(60) %}}{{% set ns.x = [ns.x, ns.x] %}}{{% endfor %}}{written}"
            )
        };
        for written in ["{{ ns.x }}", "{{ ns.x | tojson }}"] {
            let error = render(&doubled(written), json!({})).unwrap_err().to_string();
            assert!(error.contains("more than 16777216 bytes"), "{error}");
        }
    }

    #[test]
    fn an_exception_of_the_template_is_told_with_its_line() {
        let error = render("\n{{ raise_exception('roles must alternate') }}", json!({})).unwrap_err();
        assert_eq!(error, GuardError::Template("line 2: roles must alternate".into()));
    }

    #[test]
    fn a_failing_template_engine_ends_no_process() {
        let error = render("{{ list[::-1] }}", json!({"list": []})).unwrap_err().to_string();
        assert!(error.contains("hint"), "{error}");
    }

    #[test]
    fn the_clock_stands_still() {
        assert_eq!(render("{{ strftime_now('%d %b %Y') }}", json!({})).unwrap(), "26 Jul 2024");
    }

    #[test]
    fn variables_that_are_read_are_known() {
        let template = ChatTemplate::new("{% if categories is defined %}{{ categories }}{% endif %}{% set own = 1 %}");
        let template = template.unwrap();
        assert!(template.reads("categories"));
        assert!(!template.reads("own"));
    }
}
