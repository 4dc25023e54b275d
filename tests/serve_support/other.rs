//! Another server, which the sidecar asks.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::Value;

use super::PATIENCE;

/// What it was asked.
pub struct Asked {
    pub headers: String,
    pub body: String,
    pub bytes: Vec<u8>,
}

/// A server that answers each request as a script says.
pub struct Other {
    pub url: String,
    pub asked: Receiver<Asked>,
}

impl Other {
    pub fn start(script: impl Fn(&Value, &mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (sender, asked) = channel();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                answer(socket.unwrap(), &script, &sender);
            }
        });
        Self { url, asked }
    }

    pub fn asked(&self) -> Asked {
        self.asked.recv_timeout(PATIENCE).unwrap()
    }

    pub fn was_not_asked(&self) {
        assert!(self.asked.try_recv().is_err());
    }
}

fn answer(mut socket: TcpStream, script: &impl Fn(&Value, &mut TcpStream), sender: &Sender<Asked>) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let (mut headers, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) <= 2 {
            break;
        }
        let line = line.to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        headers += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let (bytes, body) = (body.clone(), String::from_utf8_lossy(&body).into_owned());
    let asked = serde_json::from_str(&body).unwrap_or_default();
    let _ = sender.send(Asked { headers, body, bytes });
    script(&asked, &mut socket);
}
