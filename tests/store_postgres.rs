//! Several servers on one PostgreSQL database, and a database that goes away.

#![cfg(all(unix, feature = "postgres"))]

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use postgres_support::breaker::{Breaker, COMMIT};
use postgres_support::{PASSWORD, Postgres};
use store_support::{alarm, fill, key, message, now, turn};
use throughline::store::{NewTurn, PostgresSettings, Request, Store, StoreError};
use throughline::verdict::Level;

mod postgres_support;
mod store_support;

fn connect(server: &Postgres) -> Store {
    Store::connect(&PostgresSettings::new(server.url()), &key(1)).unwrap()
}

/// With short patience.
fn hasty(url: String) -> PostgresSettings {
    PostgresSettings { patience: Duration::from_secs(2), ..PostgresSettings::new(url) }
}

#[test]
fn servers_that_start_and_write_together_lose_and_double_nothing() {
    const SERVERS: usize = 4;
    const TURNS: usize = 40;
    let Some(server) = Postgres::start(&[]) else { return };
    let went_on = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..SERVERS {
            let (server, went_on) = (&server, &went_on);
            scope.spawn(move || {
                // The tables are made by one of them.
                let store = connect(server);
                for turn_number in 0..TURNS {
                    let text = format!("{number} {turn_number}");
                    let request_key = format!("key {text}");
                    loop {
                        let user = store.user("ada").unwrap();
                        let messages = [message(0, user.messages as usize, &text)];
                        let new_session = (user.messages == 0).then_some(("s", Some(now())));
                        let request = Some(Request { key: &request_key, asked: [0; 32], answer: &|_| vec![1] });
                        let asked = NewTurn { user, new_session, request, ..turn(&store, "ada", &messages) };
                        match store.keep(&asked) {
                            Ok(_) => break,
                            Err(StoreError::WentOn) => went_on.fetch_add(1, Ordering::Relaxed),
                            Err(other) => panic!("{other}"),
                        };
                    }
                }
            });
        }
    });
    let store = connect(&server);
    let history = store.history("ada").unwrap().unwrap();
    let mut said: Vec<_> = history[0].messages.iter().map(|message| message.content.clone().unwrap()).collect();
    let places: Vec<usize> = history[0].messages.iter().map(|message| message.at.message).collect();
    assert_eq!(places, (0..SERVERS * TURNS).collect::<Vec<_>>());
    said.sort_unstable();
    said.dedup();
    assert_eq!((said.len(), history.len()), (SERVERS * TURNS, 1));
    assert!(went_on.into_inner() > 0, "they never met: a test that can fail");
    assert_eq!(store.check_whole().unwrap(), None);
}

#[test]
fn whoever_only_looks_makes_no_tables() {
    let Some(server) = Postgres::start(&[]) else { return };
    let look = |number| Store::connect_as_it_is(&PostgresSettings::new(server.url()), &key(number));
    let form = look(1).unwrap().form();
    assert!(form.found == 0 && form.is_older(), "{form:?}");
    assert_eq!(server.sql("SELECT to_regnamespace('throughline') IS NULL"), "t");
    connect(&server);
    let store = look(1).unwrap();
    assert!(!store.form().is_older());
    assert_eq!(store.counts().unwrap(), [0; 3]);
    assert!(matches!(look(2), Err(StoreError::OtherKey { .. })));
    server.sql("UPDATE throughline.form SET number = 99");
    assert!(matches!(look(1), Err(StoreError::Newer { found: 99, .. })));
}

#[test]
fn what_form_1_held_is_brought_forward_whole_by_servers_that_start_together() {
    let Some(server) = Postgres::start(&[]) else { return };
    let said: Vec<String> = (0..4).map(|number| format!("she was there again {number}")).collect();
    let keep = |number: usize| {
        let store = connect(&server);
        let messages = [message(0, number, &said[number])];
        let alarm = alarm(Level::Review).filter(|_| number == 2);
        store.keep(&NewTurn { alarm, ..turn(&store, "ada", &messages) }).unwrap();
    };
    (0..3).for_each(keep);
    // What the tables of form 1 lacked.
    server.sql("ALTER TABLE throughline.messages DROP COLUMN digest");
    server.sql("UPDATE throughline.form SET number = 1");
    let looked = Store::connect_as_it_is(&PostgresSettings::new(server.url()), &key(1)).unwrap();
    assert_eq!((looked.form().found, looked.form().is_older()), (1, true));
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| connect(&server)))));
    assert_eq!(server.sql("SELECT number FROM throughline.form"), "2");
    keep(3);
    let store = connect(&server);
    assert_eq!((store.check_whole().unwrap(), store.form().found), (None, 2));
    assert_eq!(store.alarms_of("ada").unwrap().alarms.len(), 1);
    let kept = &store.history("ada").unwrap().unwrap()[0].messages;
    assert!(kept.iter().zip(&said).all(|(kept, said)| kept.content.as_ref() == Some(said)));
    let digests: Vec<bool> = kept.iter().map(|kept| kept.digest.is_some()).collect();
    assert_eq!(digests, [false, false, false, true]);
}

#[test]
fn whoever_reads_alarms_in_order_misses_none() {
    const EACH: usize = 60;
    let Some(server) = Postgres::start(&[]) else { return };
    connect(&server);
    let writing = AtomicUsize::new(3);
    let seen = std::thread::scope(|scope| {
        for number in 0..3 {
            let (server, writing) = (&server, &writing);
            scope.spawn(move || {
                let store = connect(server);
                for turn_number in 0..EACH {
                    let user = format!("{number} {turn_number}");
                    let messages = [message(0, 0, "one")];
                    store.keep(&NewTurn { alarm: alarm(Level::Review), ..turn(&store, &user, &messages) }).unwrap();
                }
                writing.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let store = connect(&server);
        let mut seen: Vec<i64> = Vec::new();
        loop {
            let over = writing.load(Ordering::Relaxed) == 0;
            let news = store.alarms(seen.last().copied().unwrap_or(0), false).unwrap().alarms;
            seen.extend(news.iter().map(|alarm| alarm.id));
            if over && news.is_empty() {
                return seen;
            }
        }
    });
    assert_eq!(seen.len(), 3 * EACH);
}

#[test]
fn one_server_sees_what_another_wrote() {
    let Some(server) = Postgres::start(&[]) else { return };
    let (one, two) = (connect(&server), connect(&server));
    let messages = [message(0, 0, "one")];
    let judged = turn(&two, "ada", &messages);
    one.keep(&NewTurn { alarm: alarm(Level::Senior), ..turn(&one, "ada", &messages) }).unwrap();
    assert!(matches!(two.keep(&judged), Err(StoreError::WentOn)), "both thought that the user is new");
    assert!(two.user("ada").unwrap().open_alarm.is_some());
    two.acknowledge("ada", "rev", "", now()).unwrap();
    assert!(one.user("ada").unwrap().open_alarm.is_none() && one.user("ada").unwrap().seen_messages == 1);
    two.hold("ada", true, now()).unwrap();
    assert!(matches!(one.erase("ada"), Err(StoreError::Held)));
    two.hold("ada", false, now()).unwrap();
    let second = [message(0, 1, "two")];
    let judged = turn(&one, "ada", &second);
    assert!(two.erase("ada").unwrap());
    assert!(matches!(one.keep(&judged), Err(StoreError::WentOn)));
    assert_eq!(one.history("ada").unwrap(), None);
}

#[test]
fn a_database_that_was_killed_is_connected_to_again() {
    let Some(mut server) = Postgres::start(&[]) else { return };
    let store = connect(&server);
    store.keep(&turn(&store, "ada", &[message(0, 0, "one")])).unwrap();
    server.kill();
    let second = [message(0, 1, "two")];
    let begun = Instant::now();
    let error = store.user("ada").unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    assert!(error.to_string().contains("hint") && !error.to_string().contains(PASSWORD), "{error}");
    // While it is away nobody waits for it, and few knock at its door.
    let door = TcpListener::bind(("127.0.0.1", server.port())).unwrap();
    door.set_nonblocking(true).unwrap();
    for _ in 0..100 {
        assert!(matches!(store.user("ada"), Err(StoreError::Unreachable(_))));
    }
    let knocked = std::iter::from_fn(|| door.accept().ok()).count();
    drop(door);
    assert!(knocked <= 3, "{knocked} times");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    server.restart();
    let begun = Instant::now();
    while store.check_writable().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is not connected to again");
        std::thread::sleep(Duration::from_millis(20));
    }
    store.keep(&turn(&store, "ada", &second)).unwrap();
    // Where only the connections were lost, nobody notices.
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'throughline'");
    assert_eq!(store.history("ada").unwrap().unwrap()[0].messages.len(), 2);
}

#[test]
fn a_database_that_hangs_and_a_lock_that_is_held_are_told() {
    let Some(server) = Postgres::start(&[]) else { return };
    let store = Store::connect(&hasty(server.url()), &key(1)).unwrap();
    store.keep(&turn(&store, "ada", &[message(0, 0, "one")])).unwrap();
    let mut holder = server.psql("throughline");
    let hold = "BEGIN; SELECT 1 FROM throughline.users FOR UPDATE; SELECT pg_sleep(60)";
    let mut holder = holder.args(["-c", hold]).spawn().unwrap();
    let second = [message(0, 1, "two")];
    let begun = Instant::now();
    let error = loop {
        // Until the other has locked the row.
        if let Err(error) = store.keep(&turn(&store, "ada", &second)) {
            break error;
        }
        assert!(begun.elapsed() < Duration::from_secs(20));
    };
    assert!(matches!(error, StoreError::Busy { seconds: 1 }), "{error}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    server.freeze();
    let begun = Instant::now();
    let error = store.user("ada").unwrap_err();
    assert!(matches!(error, StoreError::Slow { seconds: 2 }) && error.to_string().contains("hint"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    server.thaw();
    assert!(store.user("ada").unwrap().messages > 0);
}

#[test]
fn a_commit_whose_answer_was_lost_is_told_and_never_doubled() {
    let Some(server) = Postgres::start(&[]) else { return };
    for heard in [true, false] {
        let breaker = Breaker::start(server.port(), (COMMIT, heard));
        let store = Store::connect(&PostgresSettings::new(server.url_at(breaker.port)), &key(1)).unwrap();
        let user = format!("heard {heard}");
        let messages = [message(0, 0, "one")];
        let request = Some(Request { key: "key-1", asked: [0; 32], answer: &|_| vec![1] });
        let judged = NewTurn { request, ..turn(&store, &user, &messages) };
        breaker.arm();
        let error = store.keep(&judged).unwrap_err();
        assert!(matches!(error, StoreError::Unsure) && error.to_string().contains("idempotency key"), "{error}");
        assert!(breaker.broke(), "a test that can fail");
        // What the database heard it does, a moment after the connection broke at the latest.
        let begun = Instant::now();
        while heard && store.answered(&user, "key-1").unwrap().is_none() && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(store.answered(&user, "key-1").unwrap().is_some(), heard);
        // Whoever tries again on what they knew keeps it once.
        let again = store.keep(&judged);
        assert_eq!(again.is_ok(), !heard, "{again:?}");
        assert_eq!(store.user(&user).unwrap().messages, 1);
    }
}

#[test]
fn a_connection_that_breaks_before_the_end_is_made_again_and_nobody_notices() {
    let Some(server) = Postgres::start(&[]) else { return };
    for word in ["BEGIN", "SELECT id FROM users", "INSERT INTO messages", "UPDATE users SET messages"] {
        for heard in [true, false] {
            let breaker = Breaker::start(server.port(), (word, heard));
            let store = Store::connect(&PostgresSettings::new(server.url_at(breaker.port)), &key(1)).unwrap();
            let user = format!("{word} {heard}");
            let messages = [message(0, 0, "one"), message(0, 1, "two")];
            let judged = turn(&store, &user, &messages);
            breaker.arm();
            store.keep(&judged).unwrap();
            assert!(breaker.broke(), "a test that can fail: {word}");
            assert_eq!(store.history(&user).unwrap().unwrap()[0].messages, messages);
        }
    }
}

#[test]
fn no_password_is_told_and_what_is_wrong_is() {
    let Some(server) = Postgres::start(&[]) else { return };
    let told = |url: String| {
        let error = Store::connect(&PostgresSettings::new(url), &key(1)).err().unwrap().to_string();
        assert!(error.contains("hint") && !error.contains(PASSWORD) && !error.contains("WRONGWORD"), "{error}");
        error
    };
    let at = server.url();
    assert!(told(at.replace(PASSWORD, "WRONGWORD")).contains("password authentication failed"));
    assert!(told(at.strip_suffix("throughline").unwrap().to_owned() + "nowhere").contains("does not exist"));
    assert!(told(at.replace("postgres://", "mysql://")).contains("postgres://"));
    assert!(told(format!("{at}?sslmode=verify-full")).contains("sslmode"));
    assert!(told(format!("{at}?WRONGWORD=1")).contains("cannot be read"));
    assert!(told(format!("{at}?sslmode=require")).contains("cannot be reached"), "it has no TLS");
    let store = connect(&server);
    assert_eq!(store.place(), at.replace(&format!(":{PASSWORD}"), ""));
    let error = store.back_up("copy.dump".as_ref()).unwrap_err().to_string();
    assert!(error.contains("pg_dump --format=custom --schema=throughline --file='copy.dump'"), "{error}");
    assert!(error.contains(&store.place()) && !error.contains(PASSWORD), "{error}");
    server.sql("UPDATE throughline.form SET number = 99");
    let newer = Store::connect(&PostgresSettings::new(at), &key(1));
    assert!(matches!(newer, Err(StoreError::Newer { found: 99, .. })));
}

#[test]
fn what_pg_dump_copies_is_put_back_by_pg_restore() {
    let Some(server) = Postgres::start(&[]) else { return };
    let store = connect(&server);
    store.keep(&turn(&store, "ada", &[message(0, 0, "one")])).unwrap();
    let error = store.back_up(&server.folder().join("copy.dump")).unwrap_err().to_string();
    // The command as it is told, in a shell.
    let command = error.split("hint: ").nth(1).unwrap().split(" (it asks").next().unwrap();
    let path = server.program("pg_dump").get_program().to_str().unwrap().to_owned();
    let folder = std::path::Path::new(&path).parent().unwrap().to_str().unwrap().to_owned();
    let run = |command: &str| {
        let mut shell = std::process::Command::new("sh");
        let script = format!("PATH={folder}:$PATH; {command}");
        let done = shell.args(["-c", &script]).env("PGPASSWORD", PASSWORD).output().unwrap();
        assert!(done.status.success(), "{command}: {done:?}");
    };
    run(command);
    store.erase("ada").unwrap();
    drop(store);
    server.sql("DROP SCHEMA throughline CASCADE");
    let dump = server.folder().join("copy.dump");
    run(&format!("pg_restore --dbname='{}' '{}'", server.url(), dump.display()));
    let before_ms = jiff::Timestamp::now().as_millisecond();
    let notes = include_str!("../deploy/postgresql.md").lines().find(|line| line.contains("setval(")).unwrap();
    server.sql(notes.split('"').nth(1).unwrap());
    let store = connect(&server);
    assert_eq!(store.check_whole().unwrap(), None);
    assert_eq!(store.history("ada").unwrap().unwrap()[0].messages[0].content.as_deref(), Some("one"));
    let messages = [message(0, 0, "two")];
    let raised = NewTurn { alarm: alarm(Level::Review), ..turn(&store, "bo", &messages) };
    let after_ms = before_ms + 60_000;
    let number = store.keep(&raised).unwrap().1.unwrap();
    assert!((before_ms..after_ms).contains(&number), "{number} is none of {before_ms}..{after_ms}");
}

#[test]
fn tls_is_spoken_with_whom_the_certificate_names() {
    let Some(mut server) = Postgres::start(&[]) else { return };
    let folder = server.folder().to_owned();
    let openssl = |arguments: &str| {
        let made =
            std::process::Command::new("openssl").args(arguments.split_whitespace()).current_dir(&folder).output();
        made.is_ok_and(|made| made.status.success())
    };
    let own = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost";
    if !openssl(&format!("{own} -keyout server.key -out server.crt"))
        || !openssl(&format!("{own} -keyout o.key -out other.crt"))
    {
        eprintln!("SKIPPED: no certificate can be made; hint: apt-get install openssl");
        return;
    }
    server.serve_tls();
    let at = |host: &str| format!("{}?sslmode=require", server.url().replace("127.0.0.1", host));
    let connect = |host: &str, ca: Option<&str>| {
        let ca_file = ca.map(|name| folder.join(name));
        Store::connect(&PostgresSettings { ca_file, ..PostgresSettings::new(at(host)) }, &key(1))
    };
    let store = connect("localhost", Some("server.crt")).unwrap();
    store.check_writable().unwrap();
    let ours =
        "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'throughline'";
    assert_eq!(server.sql(ours), "t");
    for (host, ca, why) in [
        ("localhost", None, "the system knows nobody who vouches for it"),
        ("localhost", Some("other.crt"), "another vouches"),
        ("127.0.0.1", Some("server.crt"), "another name"),
    ] {
        let error = connect(host, ca).err().expect(why).to_string();
        assert!(error.contains("certificate") && error.contains("hint"), "{why}: {error}");
    }
    let error = connect("localhost", Some("nowhere.crt")).err().unwrap().to_string();
    assert!(error.contains("nowhere.crt") && error.contains("hint"), "{error}");
}

#[test]
fn a_database_whose_disk_is_full_says_so_and_loses_nothing() {
    let Some(mut server) = Postgres::start_on_disk("100m", &["max_wal_size=32MB", "min_wal_size=32MB"]) else { return };
    let store = connect(&server);
    let text = "x".repeat(500_000);
    let (kept, error) = fill(&store, &text);
    // A server whose log has no room either stops.
    assert!(matches!(error, StoreError::Full | StoreError::Unreachable(_) | StoreError::Unsure), "{error}");
    assert!(kept > 10 && error.to_string().contains("hint"), "a test that can fail: {kept}");
    server.grow("400m");
    let begun = Instant::now();
    let history = loop {
        match store.history("ada") {
            Ok(history) => break history.unwrap(),
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(10), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let found = history[0].messages.len();
    assert!(found == kept || found == kept + 1 && matches!(error, StoreError::Unsure), "{found} of {kept}");
    store.keep(&turn(&store, "ada", &[message(0, found, &text)])).unwrap();
    assert_eq!(store.check_whole().unwrap(), None);
}
