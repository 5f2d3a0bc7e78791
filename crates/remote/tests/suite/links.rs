//! The lines a remote can be reached by.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use remote::{Endpoint, RemoteError, Stream};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_remote_is_named_in_one_of_three_ways() {
    let cases = [
        ("localhost:1234", Endpoint::Tcp("localhost:1234".to_owned())),
        (":1234", Endpoint::Tcp("localhost:1234".to_owned())),
        ("[::1]:1", Endpoint::Tcp("[::1]:1".to_owned())),
        ("unix:/tmp/a:b", Endpoint::Unix("/tmp/a:b".into())),
        ("| ssh board gdbserver - x", Endpoint::Command("ssh board gdbserver - x".to_owned())),
    ];
    for (text, endpoint) in cases {
        assert_eq!(text.parse::<Endpoint>().expect(text), endpoint);
    }
    for wrong in ["", "1234", "host", "host:", "host:port", "host:65536", "host:-1", "unix:", "|", "| "] {
        let error = wrong.parse::<Endpoint>().unwrap_err();
        assert!(matches!(error, RemoteError::Endpoint { .. }), "{wrong}: {error}");
    }
}

/// Takes one connection, answers what it hears, and closes.
fn answer(mut stream: impl Read + Write) {
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).expect("four bytes");
    stream.write_all(&heard).expect("it listens");
}

fn assert_echo(endpoint: &Endpoint) {
    let deadline = Instant::now() + PATIENCE;
    let mut link = endpoint.connect(PATIENCE).expect("somebody listens");
    link.send(b"+$#0", deadline).expect("it takes bytes");
    let mut heard = Vec::new();
    let mut buffer = [0; 3];
    loop {
        match link.receive(&mut buffer, deadline).expect("it speaks") {
            0 => break,
            len => heard.extend_from_slice(&buffer[..len]),
        }
    }
    assert_eq!(heard, b"+$#0");
}

#[test]
fn over_the_network() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = Endpoint::Tcp(listener.local_addr().expect("it has one").to_string());
    let server = std::thread::spawn(move || answer(listener.accept().expect("one comes").0));
    assert_echo(&endpoint);
    server.join().expect("it ends");
}

#[test]
fn by_a_socket_of_this_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = std::thread::spawn(move || answer(listener.accept().expect("one comes").0));
    assert_echo(&Endpoint::Unix(path));
    server.join().expect("it ends");
}

#[test]
fn by_a_command() {
    assert_echo(&Endpoint::Command("head -c 4".to_owned()));
}

#[test]
fn nobody_there_says_where() {
    let endpoint: Endpoint = "unix:/nowhere/at/all".parse().unwrap();
    let text = endpoint.connect(PATIENCE).unwrap_err().to_string();
    assert!(text.starts_with("cannot connect to unix:/nowhere/at/all: No such file"), "{text}");
}

#[test]
fn a_read_ends_at_its_deadline() {
    let mut link = Endpoint::Command("exec sleep 1000".to_owned()).connect(PATIENCE).expect("a shell");
    let error = link.receive(&mut [0], Instant::now() + Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    let error = link.receive(&mut [0], Instant::now()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

/// Whatever the command started in its group ends with it, also where it does not end by itself or when asked.
#[test]
fn a_command_is_ended_with_its_group() {
    let script = "trap '' TERM; sleep 1000 & echo $$ $!; while :; do wait; done";
    let mut link = Endpoint::Command(script.to_owned()).connect(PATIENCE).expect("a shell");
    let mut said = Vec::new();
    let mut buffer = [0; 64];
    while !said.contains(&b'\n') {
        let len = link.receive(&mut buffer, Instant::now() + PATIENCE).expect("it speaks");
        said.extend_from_slice(&buffer[..len]);
    }
    let said = String::from_utf8(said).expect("numbers");
    drop(link);
    let deadline = Instant::now() + PATIENCE;
    for pid in said.split_whitespace() {
        // Dead at once, gone when somebody has been told.
        while !is_dead(pid) {
            assert!(Instant::now() < deadline, "{pid} lives");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn is_dead(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
    matches!(state, None | Some('Z' | 'X'))
}
