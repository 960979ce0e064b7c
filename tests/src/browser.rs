//! A browser without eyes: goes to an address, follows redirects, keeps cookies a host and port,
//! presses the button of a form. What it saw is kept, for a test to look at.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use form_urlencoded::Serializer;

/// One answer.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The address that was asked.
    pub url: String,
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// One browser: its cookies, and everything it saw, in order.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    /// By host and port, then by name.
    cookies: BTreeMap<(String, String), String>,
    pub seen: Vec<Seen>,
}

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is sent on before it gives up.
const REDIRECTS: usize = 8;

impl Browser {
    /// Goes there and wherever it is sent, and shows the page at the end.
    ///
    /// # Errors
    /// Where no page came, in words.
    pub fn go(&mut self, url: &str) -> Result<Seen, String> {
        self.follow(url, None)
    }

    /// Presses the button of this name and value in the form of a page.
    ///
    /// # Errors
    /// Where there is no form, or no page came.
    pub fn press(&mut self, page: &Seen, button: (&str, &str)) -> Result<Seen, String> {
        let attribute = |text: &str, name: &str| {
            let rest = text.split(&format!("{name}=")).nth(1)?;
            let end = |c: char| c == ' ' || c == '>' || c == '"';
            Some(rest.trim_start_matches('"').split(end).next().unwrap_or_default().to_owned())
        };
        let form = page.body.split("<form").nth(1).ok_or("there is no form on the page")?;
        let action = attribute(form, "action").ok_or("the form goes nowhere")?;
        let mut fields = Serializer::new(String::new());
        for input in form.split("<input").skip(1) {
            if let (Some(name), Some(value)) = (attribute(input, "name"), attribute(input, "value"))
            {
                fields.append_pair(&name, &value);
            }
        }
        fields.append_pair(button.0, button.1);
        self.follow(&absolute(&page.url, &action), Some(fields.finish()))
    }

    /// One request, sent nowhere else.
    ///
    /// # Errors
    /// Where no answer came, in words.
    pub fn ask(&mut self, url: &str, form: Option<&str>) -> Result<Seen, String> {
        self.ask_with(url, form, &[])
    }

    /// The same with further headers; `Host` takes the place of the right one.
    ///
    /// # Errors
    /// Where no answer came, in words.
    pub fn ask_with(
        &mut self,
        url: &str,
        form: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Result<Seen, String> {
        let (host, path) = split(url).ok_or(format!("not an address of plain http: {url}"))?;
        let cookies = self.cookies.iter().filter(|((of, _), _)| of == host);
        let cookies: Vec<String> = cookies.map(|((_, name), v)| format!("{name}={v}")).collect();
        let method = if form.is_some() { "POST" } else { "GET" };
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request.push_str(&format!("Host: {host}\r\n"));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !cookies.is_empty() {
            request.push_str(&format!("Cookie: {}\r\n", cookies.join("; ")));
        }
        if let Some(form) = form {
            request.push_str("Content-Type: application/x-www-form-urlencoded\r\n");
            request.push_str(&format!("Content-Length: {}\r\n", form.len()));
        }
        request.push_str("\r\n");
        request.push_str(form.unwrap_or_default());
        // `localhost` is both loopbacks for a real browser, and 127.0.0.1 answers.
        let to = host.replace("localhost", "127.0.0.1");
        let answer = talk(&to, request.as_bytes()).map_err(|error| format!("{host}: {error}"))?;
        let seen = parsed(url, &answer).ok_or(format!("{host}: not an answer in HTTP"))?;
        for (_, cookie) in seen.headers.iter().filter(|(name, _)| name == "set-cookie") {
            if let Some((name, value)) = cookie.split(';').next().and_then(|c| c.split_once('=')) {
                let key = (host.to_owned(), name.trim().to_owned());
                self.cookies.insert(key, value.trim().to_owned());
            }
        }
        self.seen.push(seen.clone());
        Ok(seen)
    }

    fn follow(&mut self, url: &str, mut form: Option<String>) -> Result<Seen, String> {
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let seen = self.ask(&url, form.take().as_deref())?;
            match seen.header("location").filter(|_| (300..400).contains(&seen.status)) {
                Some(location) => url = absolute(&url, location),
                None => return Ok(seen),
            }
        }
        Err(format!("sent on {REDIRECTS} times"))
    }
}

/// Host and port, path and query; the fragment stays here.
fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?.split('#').next().unwrap_or_default();
    let at = rest.find('/').unwrap_or(rest.len());
    let path = &rest[at..];
    Some((&rest[..at], if path.is_empty() { "/" } else { path }))
}

fn absolute(from: &str, to: &str) -> String {
    match split(from) {
        Some((host, _)) if to.starts_with('/') => format!("http://{host}{to}"),
        _ => to.to_owned(),
    }
}

fn talk(to: &str, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(request)?;
    let mut answer = Vec::new();
    socket.take(1 << 20).read_to_end(&mut answer)?;
    Ok(answer)
}

fn parsed(url: &str, answer: &[u8]) -> Option<Seen> {
    let text = String::from_utf8_lossy(answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, v)| (name.to_ascii_lowercase(), v.trim().to_owned()));
    Some(Seen { url: url.to_owned(), status, headers: headers.collect(), body: body.to_owned() })
}
