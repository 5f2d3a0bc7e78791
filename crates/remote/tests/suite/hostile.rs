//! Servers that lie, damage, close, hang or never end: each gives an error, soon, and nothing grows.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use insn::Address;
use proptest::prelude::*;
use remote::client::Action;
use remote::connection::{Connection, LONGEST_REPLY};
use remote::packet::frame;
use remote::{Client, RemoteError, Stop, Stream, ThreadId};

const PATIENCE: Duration = Duration::from_secs(60);
const THREAD: ThreadId = ThreadId { process: None, thread: 1 };

/// A server that makes its answers of the questions.
struct Liar<F> {
    answer: F,
    bytes: VecDeque<u8>,
}

impl<F: FnMut(&str) -> Option<Vec<u8>>> Stream for Liar<F> {
    fn receive(&mut self, into: &mut [u8], _deadline: Instant) -> io::Result<usize> {
        let len = into.len().min(self.bytes.len());
        into.iter_mut().zip(self.bytes.drain(..len)).for_each(|(place, byte)| *place = byte);
        Ok(len)
    }

    fn send(&mut self, bytes: &[u8], _deadline: Instant) -> io::Result<()> {
        let question = bytes.strip_prefix(b"$").and_then(|bytes| bytes.get(..bytes.len() - 3));
        if let Some(question) = question {
            self.bytes.push_back(b'+');
            let answer = (self.answer)(&String::from_utf8_lossy(question));
            self.bytes.extend(answer.map(|answer| frame(&answer)).unwrap_or_default());
        }
        Ok(())
    }
}

/// A client of a server that begins well, with every object and action, and answers the questions that begin so with this.
fn lied(to: &'static str, lie: &'static [u8]) -> Client<impl Stream> {
    let answer = move |question: &str| {
        Some(match question {
            question if question.starts_with(to) => lie.to_vec(),
            _ if question.starts_with("qSupported") => {
                b"PacketSize=400;qXfer:features:read+;qXfer:threads:read+;qXfer:libraries-svr4:read+".to_vec()
            }
            "vCont?" => b"vCont;c;C;s;S".to_vec(),
            _ if question.starts_with("vCont") => b"T05thread:1;".to_vec(),
            "?" => b"S05".to_vec(),
            _ if question.starts_with('X') => Vec::new(),
            _ => b"OK".to_vec(),
        })
    };
    Client::connect(Liar { answer, bytes: VecDeque::new() }, PATIENCE).expect("it begins well")
}

fn assert_unexpected<T: std::fmt::Debug>(done: Result<T, RemoteError>) {
    assert!(matches!(done, Err(RemoteError::Unexpected { .. })), "{done:?}");
}

fn assert_too_long<T: std::fmt::Debug>(done: Result<T, RemoteError>) {
    assert!(matches!(done, Err(RemoteError::TooLong { .. })), "{done:?}");
}

#[test]
fn memory_of_another_length_or_in_no_digits() {
    for lie in ["000000", "0000000000", "00", "0", "zz", "OK"] {
        let mut client = lied("m", lie.as_bytes());
        let mut bytes = [1, 2];
        let done = client.read(Address(0x1000), &mut bytes);
        // One byte at a time is slow, and right.
        if lie == "00" { assert_eq!((done.unwrap(), bytes), ((), [0, 0])) } else { assert_unexpected(done) }
    }
    assert_unexpected(lied("M", b"yes").write(Address(0x1000), &[1]));
    let none = lied("m", b"").read(Address(0x1000), &mut [0]);
    assert!(matches!(none, Err(RemoteError::Unsupported { .. })), "{none:?}");
}

#[test]
fn stop_replies_where_none_belong_and_none_where_one_does() {
    assert_unexpected(lied("g", b"T05thread:1;").registers(THREAD));
    assert_unexpected(lied("H", b"T05thread:1;").registers(THREAD));
    assert_unexpected(lied("?", b"l").halted());
    assert_unexpected(lied("p", b"W00").register(THREAD, 1));
    assert_unexpected(lied("vRun", b"OK").run(&[b"x"]));
    for lie in ["OK", "T05thread:;", "g", "l"] {
        let mut client = lied("vCont;", lie.as_bytes());
        client.resume(&[(THREAD, Action::Step)], None).unwrap();
        assert_unexpected(client.wait(Instant::now() + PATIENCE));
        assert!(!client.is_running());
    }
    let mut client = lied("vCont;", b"E.no such thread");
    client.resume(&[(THREAD, Action::Step)], None).unwrap();
    let text = client.wait(Instant::now() + PATIENCE).unwrap_err().to_string();
    assert_eq!(text, "the remote refuses `vCont;s:1`: E.no such thread");
}

#[test]
fn objects_that_never_end_or_are_none() {
    for lie in [&b"m"[..], b"", b"x", b"m}", b"OK"] {
        let done = lied("qXfer", lie).transfer("features", "target.xml");
        if lie.is_empty() {
            assert!(matches!(done, Err(RemoteError::Unsupported { .. })), "{done:?}");
        } else {
            assert_unexpected(done);
        }
    }
    assert_too_long(lied("qXfer", [b'm'; 1 << 19].as_slice()).transfer("features", "target.xml"));
    assert_unexpected(lied("qXfer", b"l\xff\xfe").libraries());
    assert_unexpected(lied("qXfer", b"l<library name='x' lm='0xg' l_addr='0' l_ld='0'/>").libraries());
    assert_unexpected(lied("qXfer", b"l<threads><thread id='0'/></threads>").named_threads());
    assert_unexpected(lied("qXfer", b"l<threads></nothing>").named_threads());
    let wrong = lied("qXfer", b"l\xff").description().unwrap_err();
    assert_eq!(wrong.to_string(), "the remote's target description target.xml is wrong: it is no UTF-8");
}

#[test]
fn lists_that_never_end_or_are_none() {
    assert_too_long(
        lied("q", b"m1,2,3,4,5,6,7,8,9,a,b,c,d,e,f,10,11,12,13,14,15,16,17,18,19,1a,1b,1c,1d,1e").threads(),
    );
    for lie in ["m", "m0", "m1,", "m-1", "OK", "lm"] {
        assert_unexpected(lied("qf", lie.as_bytes()).threads());
    }
    assert_too_long(lied("qSymbol", b"qSymbol:61").offer_symbols(|_| None));
    assert_unexpected(lied("qSymbol", b"qSymbol:6").offer_symbols(|_| None));
    for lie in ["Text", "Text=", "Text=1", "Text=x;Data=1", "DataSeg=1", "TextSeg="] {
        assert_unexpected(lied("qOffsets", lie.as_bytes()).offsets());
    }
}

#[test]
fn files_of_another_length_than_they_say() {
    for lie in ["F", "Fzz", "F2;abc", "F4;abc", "Fffffffffffffffff;", "F3;ab}", "F1ffffffff;", "OK", "3;abc"]
    {
        assert_unexpected(lied("vFile:pread", lie.as_bytes()).whole_file("/x", 100));
    }
    assert_unexpected(lied("vFile:open", b"F-2").open("/x"));
    let without = lied("vFile:open", b"F-1").open("/x").unwrap_err();
    assert!(matches!(without, RemoteError::File { errno: 0, .. }), "{without}");
}

#[test]
fn a_size_of_packets_that_makes_no_sense_is_another() {
    for (said, taken) in [("0", 400), ("1", 400), ("ffffffffffffffff", 1 << 16), ("zz", 400), ("", 400)] {
        let features = remote::client::Features::parse(format!("PacketSize={said}").as_bytes());
        assert_eq!(features.packet_size, taken, "{said}");
    }
}

/// The same bytes for ever, counted.
struct Endless {
    bytes: &'static [u8],
    given: usize,
}

impl Stream for &mut Endless {
    fn receive(&mut self, into: &mut [u8], _deadline: Instant) -> io::Result<usize> {
        into.iter_mut().zip(self.bytes.iter().cycle()).for_each(|(place, byte)| *place = *byte);
        let len = into.len() / self.bytes.len() * self.bytes.len();
        self.given += len;
        assert!(self.given < 1 << 27, "somebody reads for ever");
        Ok(len)
    }

    fn send(&mut self, _bytes: &[u8], _deadline: Instant) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn replies_that_never_end_are_cut_early() {
    let cases = [
        ("one packet", "+$", LONGEST_REPLY + 8192),
        ("runs", "0*~", LONGEST_REPLY / 16),
        ("noise", " ", LONGEST_REPLY + 8192),
        ("acknowledgements", "+", 16_384),
        ("notifications", "%x#78", 16_384),
    ];
    for (what, bytes, most) in cases {
        let mut endless = Endless { bytes: bytes.as_bytes(), given: 0 };
        let mut connection =
            Connection::new(Beginning { first: b"+$".to_vec(), then: &mut endless }, PATIENCE);
        if !matches!(what, "one packet" | "runs") {
            connection = Connection::new(Beginning { first: b"+".to_vec(), then: &mut endless }, PATIENCE);
        }
        let error = connection.request(b"g").unwrap_err();
        assert!(matches!(error, RemoteError::TooLong { limit: LONGEST_REPLY, .. }), "{what}: {error}");
        assert!(matches!(connection.request(b"g"), Err(RemoteError::Broken)), "{what}");
        assert!(endless.given <= most, "{what}: {}", endless.given);
    }
}

/// Some bytes before another stream's.
struct Beginning<S> {
    first: Vec<u8>,
    then: S,
}

impl<S: Stream> Stream for Beginning<S> {
    fn receive(&mut self, into: &mut [u8], deadline: Instant) -> io::Result<usize> {
        if self.first.is_empty() {
            return self.then.receive(into, deadline);
        }
        into.iter_mut().zip(&self.first).for_each(|(place, byte)| *place = *byte);
        Ok(std::mem::take(&mut self.first).len())
    }

    fn send(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        self.then.send(bytes, deadline)
    }
}

/// Both ends of a line, and what the server's has sent before it closes.
fn line(said: &[u8]) -> (Connection<UnixStream>, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().expect("a line");
    io::Write::write_all(&mut theirs, said).expect("it fits");
    (Connection::new(ours, Duration::from_millis(50)), theirs)
}

fn heard(mut theirs: &UnixStream) -> String {
    theirs.set_nonblocking(true).expect("a socket");
    let mut bytes = Vec::new();
    let _ = io::Read::read_to_end(&mut theirs, &mut bytes);
    String::from_utf8(bytes).expect("text")
}

#[test]
fn a_damaged_reply_is_asked_for_again_and_not_for_ever() {
    let (mut connection, theirs) = line(b"+$OK#00$OK#9a");
    assert_eq!(connection.request(b"g").unwrap(), b"OK");
    assert_eq!(heard(&theirs), "$g#67-+");
    let (mut connection, theirs) = line(b"+$OK#00$OK#00$OK#00$OK#9a");
    let error = connection.request(b"g").unwrap_err();
    assert!(matches!(error, RemoteError::Damaged { times: 3, .. }), "{error}");
    assert_eq!(heard(&theirs), "$g#67--");
    assert!(matches!(connection.request(b"g"), Err(RemoteError::Broken)));
}

#[test]
fn a_packet_that_does_not_arrive_is_sent_again_and_not_for_ever() {
    let (mut connection, theirs) = line(b"-+$OK#9a");
    assert_eq!(connection.request(b"g").unwrap(), b"OK");
    assert_eq!(heard(&theirs), "$g#67$g#67+");
    let (mut connection, _theirs) = line(b"----");
    let error = connection.request(b"g").unwrap_err();
    assert!(matches!(error, RemoteError::Damaged { .. }), "{error}");
}

/// Without acknowledgements nobody would send it again.
#[test]
fn damage_on_a_line_that_cannot_damage_is_the_end() {
    let (mut connection, theirs) = line(b"$OK#00$OK#9a");
    connection.stop_acknowledging();
    let error = connection.request(b"g").unwrap_err();
    assert!(matches!(error, RemoteError::Damaged { times: 1, .. }), "{error}");
    assert_eq!(heard(&theirs), "$g#67");
}

#[test]
fn silence_ends_at_the_deadline() {
    for said in ["", "+", "+$O", "+$OK#9", "-"] {
        let (mut connection, _theirs) = line(said.as_bytes());
        let error = connection.request(b"g").unwrap_err();
        assert!(matches!(error, RemoteError::Silent { .. }) && error.is_fatal(), "{said}: {error}");
        let text = "no whole answer to `g` within 50ms: the remote hangs, or is no GDB stub";
        assert_eq!(error.to_string(), text);
        assert!(matches!(connection.request(b"g"), Err(RemoteError::Broken)));
    }
}

#[test]
fn a_closed_line_is_one() {
    for said in ["", "+", "+$O", "+$OK#9"] {
        let (mut connection, theirs) = line(said.as_bytes());
        drop(theirs);
        let error = connection.request(b"g").unwrap_err();
        assert!(matches!(error, RemoteError::Closed { .. }), "{said}: {error}");
    }
    let (mut connection, theirs) = line(b"+$OK#9a");
    assert!(connection.request(b"g").is_ok());
    drop(theirs);
    let error = connection.receive(Instant::now() + PATIENCE).unwrap_err();
    assert!(matches!(error, RemoteError::Closed { .. }), "{error}");
}

/// Whoever waits for a stop in short turns loses nothing of one that comes in pieces.
#[test]
fn half_a_packet_at_the_deadline_is_kept() {
    let (mut connection, mut theirs) = line(b"$T05thr");
    let soon = || Instant::now() + Duration::from_millis(5);
    assert_eq!(connection.receive(soon()).unwrap(), None);
    io::Write::write_all(&mut theirs, b"ead:1;#d7").unwrap();
    let packet = connection.receive(Instant::now() + PATIENCE).unwrap().expect("it is whole");
    assert_eq!(Stop::parse(&packet).and_then(|stop| stop.thread()), Some(THREAD));
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "",
        "OK",
        "E01",
        "T05",
        "T05thread:1;",
        "l",
        "m",
        "m1",
        "F",
        "F4;",
        "F-1,2",
        "W00",
        "QC1",
        "O41",
        "S05",
        "0000",
        "vCont;c;s",
        "PacketSize=400;qXfer:features:read+;QStartNoAckMode+",
        "l<reg name='pc' bitsize='8'/>",
        "xxxx",
    ]);
    prop_oneof![word.prop_map(|word| word.as_bytes().to_vec()), prop::collection::vec(any::<u8>(), 0..12),]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any answers to every question.
    #[test]
    fn any_answers_give_results_or_errors(answers in prop::collection::vec(bytes(), 0..40)) {
        let mut answers = VecDeque::from(answers);
        let liar = Liar { answer: move |_: &str| answers.pop_front(), bytes: VecDeque::new() };
        let Ok(mut client) = Client::connect(liar, PATIENCE) else { return Ok(()) };
        let _ = (client.halted(), client.layout(), client.registers(THREAD), client.threads());
        let _ = (client.read(Address(0), &mut [0; 5]), client.write(Address(0), &[0; 5]));
        let _ = client.resume(&[(THREAD, Action::Step)], None);
        let _ = (client.wait(Instant::now() + PATIENCE), client.libraries(), client.whole_file("/x", 9));
    }
}
