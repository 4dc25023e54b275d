//! Each rule of the tidy test, broken on purpose.

use super::*;

fn at(path: &str, text: &str) -> Vec<Finding> {
    check(&Source { path: path.into(), text: text.into() })
}

/// The amount found for a rule, and that no other rule found anything.
fn only(rule: &str, path: &str, text: &str) -> u64 {
    let found = at(path, text);
    assert!(found.iter().all(|f| f.rule == rule), "{found:?}");
    found.iter().map(|f| f.amount).sum()
}

#[test]
fn a_long_function_is_found_and_one_of_seventy_lines_is_not() {
    let body =
        |lines: usize| format!("impl A {{\n/// Doc.\n#[inline]\nfn f(&self) {{\n{}}}\n}}", "g();\n".repeat(lines));
    assert_eq!(only("function_lines", "src/arc/mod.rs", &body(69)), 71);
    assert_eq!(at("src/arc/mod.rs", &body(68)), []);
    let generic = format!("fn f<F: Fn(u8) -> u8>(f: F) -> [u8; 3] where F: Copy {{\n{}}}", "g();\n".repeat(80));
    assert_eq!(only("function_lines", "tests/a.rs", &generic), 82);
}

#[test]
fn a_long_file_is_found() {
    assert_eq!(only("file_lines", "src/arc/mod.rs", &"// a\n".repeat(501)), 501);
    assert_eq!(at("src/arc/mod.rs", &"// a\n".repeat(500)), []);
}

#[test]
fn a_sixth_parameter_is_found_and_self_is_none() {
    let six = "fn f(a: u8, b: HashMap<K, V>, c: fn(u8, u8) -> u8, d: impl Fn(u8, u8), e: (u8, u8), f: [u8; 2]) {}";
    assert_eq!(only("parameters", "src/arc/mod.rs", six), 6);
    let five = "trait T { fn f<'a, A: Into<B<C, D>>>(&'a self, a: A, b: Vec<(u8, u8)>, c: u8, d: u8, e: u8,); }";
    assert_eq!(at("src/arc/mod.rs", five), []);
    assert_eq!(at("src/arc/mod.rs", "fn f() {} const F: fn(u8, u8, u8, u8, u8, u8) = g;"), []);
}

#[test]
fn unfinished_marks_are_found_in_tests_too() {
    let text =
        "fn f() { assert_eq!(1, dbg!(1)); todo!() }\n#[cfg(test)] mod tests { fn g() { unimplemented!(\"x\") } }";
    assert_eq!(only("unfinished", "src/arc/mod.rs", text), 3);
    assert_eq!(at("src/arc/mod.rs", "/// todo!()\nfn todo() { let s = \"dbg!(1)\"; }"), []);
}

#[test]
fn unwraps_are_found_outside_tests_only() {
    let text = "fn f() { a.unwrap(); format!(\"{}\", b.expect(\"b\")); c.unwrap_or(0); p.expect(Token::Comma)?; }";
    assert_eq!(only("unwraps", "src/main.rs", text), 2);
    let tests =
        "#[cfg(test)]\nmod tests { fn f() { a.unwrap() } }\n#[test]\nfn g() { b.unwrap() }\nfn h() { c.unwrap() }";
    assert_eq!(only("unwraps", "src/arc/mod.rs", tests), 1);
    assert_eq!(at("tests/a.rs", text), []);
    assert_eq!(at("src/arc/tests.rs", text), []);
}

#[test]
fn printing_is_found_in_the_library_and_not_in_the_binary() {
    let text = "//! println!(\"doc\")\nfn f() { println!(\"a\"); eprint!(\"b\") }";
    assert_eq!(only("prints", "src/report/mod.rs", text), 2);
    assert_eq!(at("src/cli/score.rs", text), []);
    assert_eq!(at("src/main.rs", text), []);
}

#[test]
fn the_environment_is_read_by_the_binary_only() {
    let text = "fn f() { std::env::var(\"A\"); env::args_os(); env!(\"B\"); std::env::temp_dir(); }";
    assert_eq!(only("environment", "src/engine/load.rs", text), 2);
    assert_eq!(at("src/cli/settings.rs", text), []);
}

#[test]
fn a_crate_out_of_its_room_is_found() {
    let text = "use candle_core::{Device, Tensor};\nfn f() -> candle_nn::Linear { let tokenizers = 1; g(tokenizers) }";
    assert_eq!(only("foreign_crates", "src/scorer/mod.rs", text), 2);
    assert_eq!(at("src/engine/model/llama.rs", text), []);
    assert_eq!(only("foreign_crates", "src/engine/mod.rs", "use anyhow;"), 1);
}

#[test]
fn every_spelling_of_a_forbidden_edge_is_found() {
    let forbidden = [
        ("src/arc/mod.rs", "use crate::engine::Model;"),
        ("src/arc/mod.rs", "pub use crate::{scoring::MessageScore, engine::{self, Model}};"),
        ("src/arc/mod.rs", "fn f() { g(&[crate::verdict::Level::Review]) }"),
        ("src/arc/mod.rs", "macro_rules! m { () => { $crate::window::Window } }"),
        ("src/arc/mod.rs", "use super::scorer::Scorer;"),
        ("src/arc/detector.rs", "use super::super::{scoring::Head, report};"),
        ("src/engine/model/llama.rs", "use super::super::super::transcript::History;"),
        ("src/engine/mod.rs", "use crate::guard::{Tokenize, MessageHeads};"),
        ("src/engine/mod.rs", "use crate::guard;"),
        ("src/engine/mod.rs", "use crate::guard::*;"),
        ("src/report/mod.rs", "use crate::cli::Settings;"),
        ("src/evidence/mod.rs", "struct A;"),
    ];
    for (path, text) in forbidden {
        assert_eq!(only("edges", path, text), 1, "{path}: {text}");
    }
    let allowed = [
        ("src/arc/mod.rs", "use crate::scoring::MessageScore; use crate::arc::Signal; use crate::Error;"),
        ("src/arc/mod.rs", "#[cfg(test)] mod tests { use super::super::window::Window; }"),
        ("src/engine/mod.rs", "use crate::guard::Tokenize; fn f(t: &dyn crate::guard::Tokenize) {}"),
        ("src/engine/model/llama.rs", "use super::super::config::Config; use crate::engine::heads;"),
        ("src/cli/score.rs", "use crate::engine::Model;"),
    ];
    for (path, text) in allowed {
        assert_eq!(at(path, text), [], "{path}: {text}");
    }
}

#[test]
fn paths_of_one_machine_and_heavy_weights_are_found() {
    let text = format!("run {}ada/throughline\n", MACHINE_PATHS[0]);
    let source = |text: &str| Source { path: "README.md".into(), text: text.into() };
    assert_eq!(machine_paths(&source(&text)).map(|f| f.amount), Some(1));
    assert_eq!(machine_paths(&source("see the home page")), None);
    assert_eq!(weights(&[("a".into(), WEIGHT_BYTES_MAX)]), None);
    assert_eq!(weights(&[("a".into(), WEIGHT_BYTES_MAX), ("b".into(), 1)]).map(|f| f.rule), Some("weights"));
}

#[test]
fn the_ratchet_turns_one_way() {
    let finding = |amount| Finding { rule: "unwraps", place: "src/a.rs".into(), amount, says: "here".into() };
    let ratchet = read_ratchet("# head\n[unwraps]\n\"src/a.rs\" = 3\n");
    assert_eq!(compare(&[finding(3)], &ratchet), (Vec::new(), ratchet.clone()));
    let (wrong, lowered) = compare(&[finding(4)], &ratchet);
    assert!(wrong[0].contains("recorded: 3"), "{wrong:?}");
    assert_eq!(lowered, ratchet);
    let (wrong, lowered) = compare(&[finding(2)], &ratchet);
    assert!(wrong[0].contains("from 3 to 2"), "{wrong:?}");
    assert_eq!(write_ratchet("# head\n", &lowered), "# head\n\n[unwraps]\n\"src/a.rs\" = 2\n");
    assert_eq!(compare(&[], &ratchet).1, Ratchet::new());
    assert!(!compare(&[finding(1)], &Ratchet::new()).0.is_empty());
}
