//! Private and hostile content: what must not be shown, and what must do nothing when it is.

#![cfg(feature = "cli")]

mod cli_support;

use cli_support::{code, folder, lines, score, session, str, text, write};

/// Words that no text of ours has.
const WORDS: [&str; 6] = ["zorblat", "quimsy", "fendrickle", "oxpurrit", "glabnoid", "wimtuckle"];

#[test]
fn redacted_output_has_no_word_of_the_input() {
    let folder = folder();
    let said = WORDS.join(" ");
    let mut records = String::new();
    for day in 1..=3 {
        records += &session("ada", &format!("s{day}"), day, &[("user", &said), ("assistant", &said), ("tool", &said)]);
    }
    // Broken in ways that make the readers speak of them.
    records += &format!("{{\"user_id\": \"bo\", \"messages\": \"{said}\"}}\n");
    records += &format!("{{\"user_id\": \"bo\", \"messages\": [{{\"role\": \"{}\", \"content\": \"x\"}}]}}\n", "user");
    records += &format!("{{\"messages\": [{{\"role\": \"user\", \"content\": \"{said}\n");
    records += &format!("not json: {said}\n");
    let chats = write(&folder, "chats.jsonl", &records);
    let (report, out) = (folder.path().join("report.html"), folder.path().join("scores.jsonl"));
    let arguments = [str(&chats), "--report", str(&report), "--output", str(&out)];
    let shown = |arguments: &[&str]| {
        let output = score(arguments);
        assert_eq!(code(&output), 0, "{output:?}");
        assert!(text(&output.stderr).contains("left out"));
        [
            text(&output.stdout),
            text(&output.stderr),
            std::fs::read_to_string(&report).unwrap(),
            std::fs::read_to_string(&out).unwrap(),
        ]
    };
    let redacted = shown(&[&arguments[..], &["--redact"]].concat());
    for (place, shown) in ["stdout", "stderr", "report", "output"].iter().zip(&redacted) {
        for word in WORDS {
            assert!(!shown.contains(word), "{word} in {place}: {shown}");
        }
    }
    assert!(redacted[0].contains("(redacted)") && redacted[2].contains("redacted"));
    // Without it, people see quotes; problems and machine output have none all the same.
    let open = shown(&arguments);
    assert!(open[0].contains(WORDS[0]) && open[2].contains(WORDS[0]));
    assert!(!open[1].contains(WORDS[0]) && !open[3].contains(WORDS[0]));
}

#[test]
fn an_error_has_no_word_of_the_input() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &format!("{{\"messages\": [\"{}\"]}}\n", WORDS.join(" ")));
    let output = score(&[str(&chats)]);
    assert_eq!(code(&output), 2);
    assert!(WORDS.iter().all(|word| !text(&output.stderr).contains(word)), "{output:?}");
}

const HOSTILE: &str = "\u{1b}[2J\u{1b}[31mred\u{1b}]0;owned\u{7} \u{9b}1m </script><script>alert(1)</script> \
    \u{202e}backwards\u{202c} <img src=x onerror=alert(2)> \"onload='x' ]]> {{ 7*7 }} &amp; \u{0}\u{8} שלום";

#[test]
fn hostile_text_drives_no_terminal() {
    let folder = folder();
    let user = "\u{1b}[31muser\u{202e}\u{7}<b>";
    let chats = write(&folder, "chats.jsonl", &session(user, "\u{1b}]0;s\u{7}\u{2028}id", 1, &[("user", HOSTILE); 12]));
    let bad = write(&folder, "bad\u{1b}[31m.jsonl", "{\"oops\n");
    let output = score(&[str(&chats), str(&bad)]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(text(&output.stdout).contains("backwards"), "{}", text(&output.stdout));
    for shown in [text(&output.stdout), text(&output.stderr)] {
        let unsafe_ones: Vec<char> =
            shown.chars().filter(|c| (c.is_control() && *c != '\n') || ('\u{2028}'..='\u{202e}').contains(c)).collect();
        assert_eq!(unsafe_ones, [] as [char; 0], "{shown:?}");
    }
    let missing = score(&["nowhere\u{1b}[31m.jsonl"]);
    assert!(!text(&missing.stderr).contains('\u{1b}'), "{missing:?}");
}

#[test]
fn hostile_text_is_only_text_on_the_page() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &session("<i>\"'&</title>", "</svg>", 1, &[("user", HOSTILE)]));
    let report = folder.path().join("report.html");
    assert_eq!(code(&score(&[str(&chats), "--report", str(&report)])), 0);
    let page = std::fs::read_to_string(&report).unwrap();
    for never in ["<script", "<img", "<i>", "alert(1)</", "\u{1b}", "\u{202e}", "\u{0}", "http:", "https:"] {
        assert!(!page.contains(never), "{never:?} on the page");
    }
    assert!(page.contains("&lt;script&gt;") || page.contains("&#60;script&#62;"), "it is quoted");
    assert!(page.contains("default-src 'none'; style-src 'unsafe-inline'"));
    assert!(page.contains("not a diagnosis"));
    assert_eq!(page.matches("</svg>").count(), 1, "an id closed the drawing");
}

#[test]
fn ids_stay_as_they_are_for_machines() {
    let folder = folder();
    let user = "a\u{1b}[31m\u{202e}\"b";
    let chats = write(&folder, "chats.jsonl", &session(user, "s", 1, &[("user", HOSTILE)]));
    let found = lines(&score(&[str(&chats), "-o", "-"]).stdout);
    assert_eq!(found[1]["user_id"], user);
}

#[test]
fn a_page_that_leaves_users_out_says_so() {
    let folder = folder();
    let users = |count: usize| -> String {
        (0..count).map(|user| session(&format!("user-{user:04}"), "s", 1, &[("user", "hello")])).collect()
    };
    let report = folder.path().join("report.html");
    for (count, says) in [(2, "<caption>Every user,"), (1_001, "<caption>1000 of 1001 users, the most urgent first")] {
        let chats = write(&folder, "chats.jsonl", &users(count));
        assert_eq!(code(&score(&[str(&chats), "-q", "--report", str(&report)])), 0);
        assert!(std::fs::read_to_string(&report).unwrap().contains(says), "{count} users");
    }
}
