//! A PostgreSQL server of its own for each test, in a temporary folder; as another user where the tests run as root, whom it refuses.

#![allow(dead_code, reason = "every test file uses a part")]

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub mod breaker;

pub const PASSWORD: &str = "PASSWORDWORD";
/// Until it answers.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Postgres {
    folder: TempDir,
    /// Whether the folder is a disk of its own.
    mounted: bool,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    settings: Vec<String>,
    port: u16,
    child: Child,
}

impl Postgres {
    /// A server with an empty database; where PostgreSQL is not installed that is said, and there is none.
    pub fn start(settings: &[&str]) -> Option<Self> {
        Self::start_in(tempfile::tempdir().unwrap(), false, settings)
    }

    /// The same on a disk of its own, of that size; where none can be mounted, that is said.
    pub fn start_on_disk(size: &str, settings: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if !mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], folder.path()) {
            eprintln!("SKIPPED: no disk can be mounted here; hint: run as root, in a system of its own");
            return None;
        }
        Self::start_in(folder, true, settings)
    }

    fn start_in(folder: TempDir, mounted: bool, settings: &[&str]) -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("SKIPPED: PostgreSQL is not installed; hint: apt-get install postgresql");
            return None;
        };
        let user = is_root().then(|| other_user().expect("a user postgres or nobody"));
        std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        give(folder.path(), user);
        let initdb = program(&programs.join("initdb"), user)
            .args(["--no-sync", "--username=throughline", "--auth-local=trust", "--auth-host=scram-sha-256"])
            .arg(format!("--pwfile={}", folder.path().join("password").display()))
            .arg(folder.path().join("data"))
            .output()
            .unwrap();
        assert!(initdb.status.success(), "{initdb:?}");
        let child = serve(&programs, (folder.path(), port), user, &settings);
        let mut server = Self { folder, mounted, programs, user, settings, port, child };
        server.wait();
        server.sql_in("postgres", "CREATE DATABASE throughline");
        Some(server)
    }

    /// Its address, password included.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same behind another port.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://throughline:{PASSWORD}@127.0.0.1:{port}/throughline")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What a statement says, in rows of `a|b`.
    pub fn sql(&self, statement: &str) -> String {
        self.sql_in("throughline", statement)
    }

    fn sql_in(&self, database: &str, statement: &str) -> String {
        let output = self.psql(database).args(["-c", statement]).output().unwrap();
        assert!(output.status.success(), "{statement}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Through the socket, where no password is asked.
    pub fn psql(&self, database: &str) -> Command {
        let mut psql = program(&self.programs.join("psql"), self.user);
        let socket = self.folder.path().to_str().unwrap();
        let port = self.port.to_string();
        psql.args(["-X", "-q", "-A", "-t", "-h", socket, "-p", &port, "-U", "throughline", "-d", database]);
        psql
    }

    /// Another of its programs.
    pub fn program(&self, name: &str) -> Command {
        program(&self.programs.join(name), self.user)
    }

    /// SIGKILL, to the server and every process of it.
    pub fn kill(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            return;
        }
        let all = self.processes();
        all.iter().for_each(|id| signal("-KILL", *id));
        self.child.wait().unwrap();
    }

    /// Starts it again after it was killed.
    pub fn restart(&mut self) {
        self.begin();
        self.wait();
    }

    fn begin(&mut self) {
        self.child = serve(&self.programs, (self.folder.path(), self.port), self.user, &self.settings);
    }

    /// Starts it anew with the certificate `server.crt` and its key in the folder.
    pub fn serve_tls(&mut self) {
        give(self.folder.path(), self.user);
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let settings = [
            "ssl=on".into(),
            format!("ssl_cert_file={}", at("server.crt")),
            format!("ssl_key_file={}", at("server.key")),
        ];
        self.settings.extend(settings);
        self.kill();
        self.restart();
    }

    /// Makes its disk larger, and starts it anew.
    pub fn grow(&mut self, size: &str) {
        self.kill();
        assert!(mount(&["-o", &format!("remount,size={size}")], self.folder.path()));
        self.restart();
    }

    /// Stops the clock for every process of it; it goes on where it was.
    pub fn freeze(&self) {
        self.processes().iter().for_each(|id| signal("-STOP", *id));
    }

    pub fn thaw(&self) {
        self.processes().iter().for_each(|id| signal("-CONT", *id));
    }

    /// The server's process first.
    fn processes(&self) -> Vec<u32> {
        let parent = self.child.id();
        let is_child = |id: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // `id (name) state parent …`
            let after = stat.rsplit(')').next().unwrap_or_default();
            after.split_whitespace().nth(1).and_then(|text| text.parse().ok()) == Some(parent)
        };
        let ids =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        [parent].into_iter().chain(ids.filter(is_child)).collect()
    }

    fn wait(&mut self) {
        let begun = Instant::now();
        while !self.psql("postgres").args(["-c", "SELECT 1"]).output().unwrap().status.success() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not start: {log}");
            std::thread::sleep(Duration::from_millis(50));
            // It refuses to start while a process of the one that was killed is not gone.
            if self.child.try_wait().unwrap().is_some() {
                self.begin();
            }
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.kill();
        }
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
        }
    }
}

pub fn mount(arguments: &[&str], at: &Path) -> bool {
    Command::new("mount").args(arguments).arg(at).output().is_ok_and(|mounted| mounted.status.success())
}

fn serve(programs: &Path, (folder, port): (&Path, u16), user: Option<(u32, u32)>, settings: &[String]) -> Child {
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let settings = settings.iter().flat_map(|setting| ["-c", setting]);
    // Processes are killed here, not machines: what was written to a file is there.
    program(&programs.join("postgres"), user)
        .args(["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-p", &port.to_string()])
        .args(settings)
        .arg("-k")
        .arg(folder)
        .arg("-D")
        .arg(folder.join("data"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Gives a folder and what is in it to the user.
pub fn give(path: &Path, user: Option<(u32, u32)>) {
    let Some((id, group)) = user else { return };
    chown(path, Some(id), Some(group)).unwrap();
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), user));
    }
}

fn program(path: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).current_dir("/");
    if let Some((id, group)) = user {
        command.uid(id).gid(group);
    }
    command
}

fn signal(name: &str, id: u32) {
    // It may be gone.
    let _ = Command::new("kill").args([name, &id.to_string()]).stderr(Stdio::null()).status();
}

fn programs() -> Option<PathBuf> {
    let said = Command::new("pg_config").arg("--bindir").output().ok().map(|output| text(&output));
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut folders: Vec<PathBuf> = installed.map(|entry| entry.unwrap().path().join("bin")).collect();
    folders.sort();
    folders.extend(said.map(PathBuf::from));
    folders.into_iter().rev().find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

fn is_root() -> bool {
    text(&Command::new("id").arg("-u").output().unwrap()) == "0"
}

fn other_user() -> Option<(u32, u32)> {
    let id = |flag: &str, name: &str| text(&Command::new("id").args([flag, name]).output().unwrap()).parse().ok();
    ["postgres", "nobody"].iter().find_map(|name| Some((id("-u", name)?, id("-g", name)?)))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
