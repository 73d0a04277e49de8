// A server knows a session for 30 days.
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};
use std::{env, thread};

fn ask(mut to: impl Read + Write, request: &str, body: &str) -> String {
    let text = format!("{request} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    to.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    to.read_to_string(&mut answer).unwrap();
    answer
}

fn jump(span: &str) {
    let address = env::var("VDSOTIME_CONTROL").unwrap();
    let clock = UnixStream::connect(address.trim_start_matches("unix:")).unwrap();
    let answer = ask(clock, "POST /jump", &format!("{{\"span\": \"{span}\"}}"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn the_session_expires() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let login = SystemTime::now();
    thread::spawn(move || {
        for mut client in server.incoming().flatten() {
            let is_known = login.elapsed().unwrap() < Duration::from_secs(30 * 24 * 3600);
            client.read(&mut [0; 1024]).unwrap();
            write!(client, "HTTP/1.1 {}\r\n\r\n", if is_known { 200 } else { 401 }).unwrap();
        }
    });
    for (span, status) in [("29d", "200"), ("1d", "401")] {
        jump(span);
        let answer = ask(TcpStream::connect(address).unwrap(), "GET /", "");
        assert!(answer.contains(status), "{answer}");
    }
}
