//! The sidecar over TLS.

#![cfg(feature = "server")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serve_support::Server;
use serve_support::cli_support::folder;
use tempfile::TempDir;

mod serve_support;

/// A certificate of its own for this machine, written with its key.
fn certificate(home: &TempDir) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(home.path().join("certificate.pem"), made.cert.pem()).unwrap();
    std::fs::write(home.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn arguments(home: &Path) -> [String; 4] {
    let path = |name: &str| home.join(name).to_str().unwrap().to_owned();
    ["--tls-certificate".into(), path("certificate.pem"), "--tls-key".into(), path("key.pem")]
}

/// What a client that trusts one certificate is answered.
fn ask(server: &Server, trusted: &CertificateDer<'static>) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let socket = TcpStream::connect(server.url.strip_prefix("https://").unwrap())?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn it_answers_over_tls_and_a_new_certificate_counts_without_a_restart() {
    let (home, files) = (folder(), folder());
    let first = certificate(&files);
    let arguments = arguments(files.path());
    let server = Server::start(home.path(), &arguments.each_ref().map(String::as_str));
    assert!(server.url.starts_with("https://"), "{}", server.url);
    assert!(ask(&server, &first).unwrap().starts_with("HTTP/1.1 200"));
    // Who does not speak TLS is not answered, and holds nobody up.
    let mut plain = TcpStream::connect(server.url.strip_prefix("https://").unwrap()).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"));
    std::thread::sleep(Duration::from_millis(1_100));
    let second = certificate(&files);
    assert!(ask(&server, &second).unwrap().starts_with("HTTP/1.1 200"));
    assert!(ask(&server, &first).is_err(), "the old one is not shown any more");
    // One that cannot be used changes nothing.
    std::thread::sleep(Duration::from_millis(1_100));
    std::fs::write(files.path().join("key.pem"), "no key").unwrap();
    assert!(ask(&server, &second).unwrap().starts_with("HTTP/1.1 200"));
    server.until_logged("it stays as it was");
    let (status, _) = server.stop();
    assert_eq!(status, Some(0));
}

#[test]
fn what_is_no_certificate_is_told_at_the_start() {
    let (home, files, other) = (folder(), folder(), folder());
    let arguments = arguments(files.path());
    let arguments = arguments.each_ref().map(String::as_str);
    let told = |arguments: &[&str]| Server::try_start(home.path(), arguments).err().unwrap();
    assert!(told(&arguments).contains("certificate.pem"), "{}", told(&arguments));
    certificate(&files);
    certificate(&other);
    std::fs::copy(other.path().join("key.pem"), files.path().join("key.pem")).unwrap();
    let log = told(&arguments);
    assert!(log.contains("key.pem") && log.contains("hint: PEM"), "{log}");
    assert!(told(&arguments[..2]).contains("--tls-key"));
}
