//! Breaks connections to a database at a moment that matters.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What stands between a store and its database, and breaks once after it was armed: at a word of the next transaction that writes.
pub struct Breaker {
    pub port: u16,
    armed: Arc<AtomicBool>,
}

/// The end of a transaction; the word stands in others as well.
pub const COMMIT: &str = "COMMIT\0";

impl Breaker {
    /// At which word, and whether the database still hears it.
    pub fn start(to: u16, (at, heard): (&'static str, bool)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let armed = Arc::new(AtomicBool::new(false));
        let shared = armed.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(("127.0.0.1", to)).unwrap();
                let (mut answers, mut asker) = (far.try_clone().unwrap(), near.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut answers, &mut asker));
                let armed = shared.clone();
                std::thread::spawn(move || pass((near, far), &armed, (at.as_bytes(), heard)));
            }
        });
        Self { port, armed }
    }

    pub fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Whether it broke since.
    pub fn broke(&self) -> bool {
        !self.armed.load(Ordering::SeqCst)
    }
}

fn pass((mut near, mut far): (TcpStream, TcpStream), armed: &AtomicBool, (at, heard): (&[u8], bool)) {
    let mut buffer = [0; 65_536];
    let mut writes = false;
    while let Ok(bytes @ 1..) = near.read(&mut buffer) {
        let says = |word: &[u8]| buffer[..bytes].windows(word.len()).any(|part| part == word);
        writes = says(b"READ WRITE\0") || writes && !says(b"READ ONLY\0");
        if writes && says(at) && armed.swap(false, Ordering::SeqCst) {
            near.shutdown(std::net::Shutdown::Both).unwrap();
            if heard {
                far.write_all(&buffer[..bytes]).unwrap();
                std::thread::sleep(Duration::from_millis(200));
            }
            far.shutdown(std::net::Shutdown::Both).unwrap();
            return;
        }
        if far.write_all(&buffer[..bytes]).is_err() {
            return;
        }
    }
    let _ = far.shutdown(std::net::Shutdown::Both);
}
