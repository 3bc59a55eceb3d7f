//! Metrics over HTTP: one page, for whoever asks at `/metrics`.
//!
//! The server is a task of the recording loop's runtime, so what one request can take is
//! bounded: so many at once, so many bytes, so much time.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as Bound, ToSocketAddrs as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

/// So many are answered at once; others are turned away.
const MOST_AT_ONCE: usize = 16;
/// No request that is meant is longer.
const MOST_BYTES: usize = 8 << 10;
/// A request and its answer take no longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// When no connection can be taken, the next try is after so long.
const PAUSE: Duration = Duration::from_millis(200);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// An address that is ours, where nobody is answered yet.
#[derive(Debug)]
pub struct Listener {
    bound: Bound,
    address: SocketAddr,
}

impl Listener {
    /// Takes the address: a port of this machine alone (`9464`), or an address with a port.
    ///
    /// # Errors
    /// When it is none, is in use, or is not ours to take.
    pub fn bind(text: &str) -> Result<Self> {
        let wanted = address(text)?;
        let bound = Bound::bind(wanted).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => format!(
                    "; `ss -ltnp 'sport = :{}'` shows who has it, and port 0 takes a free one",
                    wanted.port()
                ),
                io::ErrorKind::AddrNotAvailable => {
                    "; `ip address` shows those of this machine".to_owned()
                }
                _ => String::new(),
            };
            anyhow!("metrics can't be served at {wanted}: {error}{hint}")
        })?;
        let address = bound.local_addr().context("getsockname")?;
        bound.set_nonblocking(true).context("O_NONBLOCK")?;
        Ok(Self { bound, address })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from now on, as long as the runtime lives. To be called within it.
    ///
    /// # Errors
    /// When the runtime refuses it.
    pub(crate) fn serve(self, page: Arc<Page>) -> Result<()> {
        let listener = TcpListener::from_std(self.bound).context("the metrics' socket")?;
        tokio::spawn(serve(listener, page));
        Ok(())
    }
}

fn address(text: &str) -> Result<SocketAddr> {
    let text = text.trim();
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        return Ok((IpAddr::V4(Ipv4Addr::LOCALHOST), port).into());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let named = text
        .rsplit_once(':')
        .filter(|(_, port)| port.parse::<u16>().is_ok());
    let found = named.and_then(|_| text.to_socket_addrs().ok()?.next());
    found.with_context(|| {
        format!(
            "{text:?} is no address for metrics; write a port, such as 9464, for this machine \
             alone, or an address with a port, such as 10.0.0.7:9464 or 0.0.0.0:9464"
        )
    })
}

/// The page, in both its forms: OpenMetrics, and the older text format.
#[derive(Debug, Default)]
pub(crate) struct Page(Mutex<[String; 2]>);

impl Page {
    pub(crate) fn set(&self, forms: [String; 2]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = forms;
    }

    fn get(&self, form: usize) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[form].clone()
    }
}

async fn serve(listener: TcpListener, page: Arc<Page>) {
    let at_once = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        if at_once.load(Relaxed) >= MOST_AT_ONCE {
            continue;
        }
        let (page, at_once) = (page.clone(), at_once.clone());
        at_once.fetch_add(1, Relaxed);
        tokio::spawn(async move {
            // Who goes away or takes too long gets no answer.
            let _ = timeout(PATIENCE, answer(stream, &page)).await;
            at_once.fetch_sub(1, Relaxed);
        });
    }
}

async fn answer(stream: TcpStream, page: &Page) -> io::Result<()> {
    let request = read(&stream).await?;
    let (head, body) = response(&request, |form| page.get(form));
    write(&stream, head.as_bytes()).await?;
    write(&stream, body.as_bytes()).await
}

/// A request up to the empty line that ends its head.
async fn read(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|it| it == b"\r\n\r\n") && request.len() < MOST_BYTES {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(request)
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The head and the body of the answer to a request (RFC 9112).
fn response(request: &[u8], page: impl Fn(usize) -> String) -> (String, String) {
    let request = String::from_utf8_lossy(request);
    let is_whole = request.contains("\r\n\r\n");
    let mut lines = request.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let path = target.split('?').next().unwrap_or_default();
    let wants_open = lines.any(|line| {
        let (name, value) = line.split_once(':').unwrap_or_default();
        name.eq_ignore_ascii_case("accept") && value.contains("application/openmetrics-text")
    });
    let plain = |status, text: &str| (status, TEXT, text.to_owned());
    let (status, kind, body) = match (method, path) {
        _ if !is_whole => plain("400 Bad Request", "this is no HTTP request\n"),
        ("GET" | "HEAD", "/metrics") if wants_open => ("200 OK", OPEN_METRICS, page(0)),
        ("GET" | "HEAD", "/metrics") => ("200 OK", PROMETHEUS, page(1)),
        ("GET" | "HEAD", _) => plain("404 Not Found", "the metrics are at /metrics\n"),
        _ => plain("405 Method Not Allowed", "only GET is answered\n"),
    };
    let allow = if status.starts_with("405") {
        "Allow: GET, HEAD\r\n"
    } else {
        ""
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}\
         Connection: close\r\n\r\n",
        body.len()
    );
    let body = if method == "HEAD" {
        String::new()
    } else {
        body
    };
    (head, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(form: usize) -> String {
        ["open\n", "old\n"][form].to_owned()
    }

    fn asked(request: &str) -> (String, String) {
        let (head, body) = response(request.as_bytes(), page);
        (head.lines().next().expect("a line").to_owned(), body)
    }

    #[test]
    fn a_port_alone_is_of_this_machine() {
        for (text, expected) in [
            ("9464", "127.0.0.1:9464"),
            (":9464", "127.0.0.1:9464"),
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("[::1]:9464", "[::1]:9464"),
        ] {
            assert_eq!(address(text).expect("one").to_string(), expected);
        }
        for bad in ["", "x", "10.0.0.7", "99999", "1.2.3.4:99999", "http://a/"] {
            let error = address(bad).expect_err(bad).to_string();
            assert!(error.contains("such as 9464"), "{error}");
        }
    }

    #[test]
    fn the_form_is_what_is_asked_for() {
        let ok = "HTTP/1.1 200 OK".to_owned();
        let old = asked("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(old, (ok.clone(), "old\n".to_owned()));
        let open = "GET /metrics?x=1 HTTP/1.1\r\naccept: application/openmetrics-text\r\n\r\n";
        assert_eq!(asked(open), (ok.clone(), "open\n".to_owned()));
        let (head, body) = response(b"HEAD /metrics HTTP/1.1\r\n\r\n", page);
        assert!(
            head.contains("Content-Length: 4\r\n") && body.is_empty(),
            "{head}"
        );
    }

    #[test]
    fn what_is_no_request_for_metrics_is_told_so() {
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("GET /metrics HTTP/1.1\r\n", "400 Bad Request"),
            ("\u{16}\u{3}\u{1}", "400 Bad Request"),
            ("", "400 Bad Request"),
        ] {
            assert_eq!(
                asked(request).0,
                format!("HTTP/1.1 {status}"),
                "{request:?}"
            );
        }
    }

    #[test]
    fn an_address_in_use_is_told_with_how_to_find_who_has_it() {
        let first = Listener::bind("0").expect("a free one");
        let taken = first.address().to_string();
        let error = Listener::bind(&taken)
            .expect_err("it is in use")
            .to_string();
        let port = first.address().port();
        assert!(error.contains(&format!("sport = :{port}")), "{error}");
    }
}
