//! What an operator writes: policies, categories, tokens, keys.

use std::sync::OnceLock;

use throughline::arc::{ArcKind, ArcState, MessageAt, Observation};
use throughline::guard::categories::CategoryPolicy;
use throughline::guard::llama_guard::{Family, GuardMessage, GuardSettings, LlamaGuard};
use throughline::scoring::MessageScore;
use throughline::server::{Access, Caller, Scope, ServerSettings, TlsSettings, digest};
use throughline::store::MasterKey;
use throughline::transcript::Role;
use throughline::verdict::{Facts, Named, Policy, PolicyFile};

use super::Folder;
use super::chat::{controls, llama3};
use super::halves;
use super::server::settings;

/// A policy that passes its check judges, says the same level in both ways, and is the same after it was written and read.
pub fn policy(data: &[u8]) {
    let Ok(PolicyFile { policy, .. }) = PolicyFile::from_toml(&String::from_utf8_lossy(data), "policy.toml") else {
        return;
    };
    let mut named = Named::default();
    named.add(MessageAt { session: 0, message: 0 }, &["S1".into(), "S15".into()]);
    let mut arcs = ArcKind::ALL.map(ArcState::new);
    for message in 0..6 {
        let facts = Facts { arcs: &arcs, named: &named };
        assert_eq!(policy.judge(&facts).level, policy.level(&facts));
        arcs.iter_mut().for_each(|arc| arc.step(&threat(message)));
    }
    let json = serde_json::to_string(&policy).expect("a policy is JSON");
    assert_eq!(serde_json::from_str::<Policy>(&json).expect("a policy that was written"), policy);
}

fn threat(message: usize) -> Observation {
    let levels = [0.1, 0.1, 0.3, 0.5];
    let from_user = message.is_multiple_of(2);
    let score =
        MessageScore { harassment: levels, delusion: levels, stance: levels, imminent: 0.6, ..MessageScore::NOTHING };
    Observation { at: MessageAt { session: 0, message }, time: None, from_user, score }
}

/// Categories that pass their check are written into every family's prompt, and open or close no turn there.
pub fn categories(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(policy) = CategoryPolicy::from_toml(&text, "categories.toml") else { return };
    let tokenizer = llama3();
    let message = |role, content: &str| GuardMessage { role, note: None, content: content.into(), continues: false };
    let messages = [message(Role::User, "hello"), message(Role::Assistant, "good morning")];
    for family in Family::ALL {
        let guard = |policy| {
            LlamaGuard::new(GuardSettings { family: Some(family), policy, ..GuardSettings::default() }, tokenizer)
        };
        // A code that the family was trained on is refused.
        let Ok(own) = guard(Some(&policy)) else { continue };
        let prompt = |guard: LlamaGuard| guard.prompt(&messages, tokenizer).expect("a prompt").tokens;
        let plain = prompt(guard(None).expect("a guard without a policy"));
        assert_eq!(controls(&prompt(own), tokenizer), controls(&plain, tokenizer), "{family:?}");
    }
}

/// A token file lets in nobody whose digest does not stand in it; the same bytes as an operator's key are one or none.
pub fn access(data: &[u8]) {
    const TOKEN: &str = "tl_fuzz";
    static FOLDER: OnceLock<Folder> = OnceLock::new();
    let path = FOLDER.get_or_init(Folder::new).file("tokens.toml", data);
    let text = String::from_utf8_lossy(data);
    if let Ok(access) = Access::new(Some(path)) {
        assert!(!access.is_open() && access.check(None, Scope::Read).is_err());
        let known: String = digest(TOKEN).iter().map(|byte| format!("{byte:02x}")).collect();
        for scope in [Scope::Ingest, Scope::Read, Scope::Review, Scope::Admin] {
            match access.check(Some(TOKEN), scope) {
                Ok(Caller::Token(_)) => assert!(text.to_ascii_lowercase().contains(&known)),
                Ok(Caller::Anyone) => panic!("let in without a token"),
                Err(_) => {}
            }
        }
    }
    if let Some(key) = MasterKey::from_hex(&text) {
        assert_eq!(*key.to_hex(), text.trim().to_ascii_lowercase());
    }
}

/// A file of webhooks, or a certificate and its key with a line of `===` between them: they are used or refused. The last byte says which.
pub fn served(data: &[u8]) {
    static FOLDER: OnceLock<Folder> = OnceLock::new();
    let Some((&how, bytes)) = data.split_last() else { return };
    let folder = FOLDER.get_or_init(Folder::new);
    let asked = if how & 1 == 0 {
        ServerSettings { webhooks: Some(folder.file("webhooks.toml", bytes)), ..settings() }
    } else {
        let (certificate, key) = halves(bytes);
        let tls =
            TlsSettings { certificate: folder.file("certificate.pem", certificate), key: folder.file("key.pem", key) };
        ServerSettings { tls: Some(tls), ..settings() }
    };
    if let Err(error) = asked.prepare() {
        assert!(!error.to_string().is_empty());
    }
}
