//! Violations that stand, and how they may only fall.

use std::collections::BTreeMap;

use super::Finding;

pub const RATCHET: &str = "tests/tidy.ratchet.toml";

pub type Ratchet = BTreeMap<(String, String), u64>;

/// `[rule]` sections of `"place" = amount` lines.
pub fn read_ratchet(text: &str) -> Ratchet {
    let mut rule = String::new();
    let mut out = Ratchet::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            rule = name.into();
        } else {
            let (place, amount) = line.split_once(" = ").unwrap_or_else(|| panic!("{RATCHET}: {line:?}"));
            out.insert((rule.clone(), place.trim_matches('"').into()), amount.parse().unwrap());
        }
    }
    out
}

pub fn write_ratchet(head: &str, ratchet: &Ratchet) -> String {
    let mut out = head.to_owned();
    let mut section = "";
    for ((rule, place), amount) in ratchet {
        if rule != section {
            out.push_str(&format!("\n[{rule}]\n"));
            section = rule;
        }
        out.push_str(&format!("\"{place}\" = {amount}\n"));
    }
    out
}

/// What is wrong, as lines; and the ratchet as it may stand: nothing new, nothing larger, nothing stale.
pub fn compare(findings: &[Finding], ratchet: &Ratchet) -> (Vec<String>, Ratchet) {
    let (mut wrong, mut lowered) = (Vec::new(), Ratchet::new());
    let mut seen = Ratchet::new();
    for finding in findings {
        let key = (finding.rule.to_owned(), finding.place.clone());
        // Two functions of one name in a file: the larger one stands for both.
        let amount = *seen.entry(key.clone()).and_modify(|a| *a = (*a).max(finding.amount)).or_insert(finding.amount);
        let recorded = ratchet.get(&key).copied().unwrap_or(0);
        if amount > recorded {
            wrong.push(format!("{}: {}: {} (recorded: {recorded})", finding.rule, finding.place, finding.says));
        }
    }
    for (key, &recorded) in ratchet {
        let found = seen.get(key).copied().unwrap_or(0);
        if found < recorded {
            wrong.push(format!("{}: {}: fell from {recorded} to {found}; hint: TIDY_LOWER=1", key.0, key.1));
        }
        if found > 0 {
            lowered.insert(key.clone(), found.min(recorded));
        }
    }
    (wrong, lowered)
}
