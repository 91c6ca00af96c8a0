//! A headless Chromium, driven over the W3C WebDriver protocol.
//!
//! ChromeDriver listens on a free port of this machine; requests are plain
//! HTTP. A command that fails panics with the driver's own message.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

const ADVICE: &str = "install both with `apt-get update && apt-get install -y chromium \
                      chromium-driver`, or set SONOGRAD_TEST_PAGE=none to skip the page tests";
pub struct Browser {
    port: u16,
    pub session: String,
    driver: Child,
    /// Kept open, or the driver's next message would end it.
    _output: BufReader<ChildStdout>,
    profile: TempDir,
}

impl Browser {
    /// A fresh browser with more options.
    ///
    /// # Panics
    /// If Chromium or its driver is missing, with the line that installs them.
    pub fn start(more: &[&str]) -> Self {
        let chromium = find(&["chromium", "chromium-browser", "google-chrome"]);
        let chromedriver = find(&["chromedriver"]);
        let mut driver = Command::new(chromedriver)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let mut output = BufReader::new(driver.stdout.take().expect("a pipe"));
        let port = read_port(&mut output);
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut browser = Self {
            port,
            session: String::new(),
            driver,
            _output: output,
            profile,
        };
        browser.open_session(&chromium, more);
        browser
    }

    fn open_session(&mut self, chromium: &Path, more: &[&str]) {
        let mut arguments: Vec<String> = [
            "--headless=new",
            "--disable-quic",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]
        .map(String::from)
        .into();
        arguments.extend(more.iter().map(|&own| own.into()));
        let folder = self.profile.path();
        arguments.push(format!("--user-data-dir={}", folder.display()));
        if owned_by_root(folder) {
            arguments.push("--no-sandbox".into());
        }
        let reply = self.request(
            "POST",
            "/session",
            json!({"capabilities": {"alwaysMatch": {
                "browserName": "chrome",
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
                "goog:chromeOptions": {"binary": chromium, "args": arguments},
            }}}),
        );
        self.session = text(&reply["sessionId"]);
        // Leaves the browser's own start page, which asks for many parts.
        self.post("/url", json!({"url": "about:blank"}));
        self.requests();
    }

    /// Opens a file; returns once it is loaded.
    pub fn open(&self, file: &Path) {
        let url = format!("file://{}", file.display());
        self.post("/url", json!({ "url": url }));
    }

    /// What `script` returns.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({"script": script, "args": []}))
    }

    /// Addresses asked for since the last call.
    pub fn requests(&self) -> Vec<String> {
        let events = self.log("performance").into_iter().filter_map(|event| {
            let event: Value = serde_json::from_str(&event).expect("an event");
            let message = &event["message"];
            let asks = message["method"] == "Network.requestWillBeSent";
            asks.then(|| text(&message["params"]["request"]["url"]))
        });
        events.collect()
    }

    pub fn log(&self, kind: &str) -> Vec<String> {
        let entries = self.post("/se/log", json!({ "type": kind }));
        let entries = entries.as_array().expect("a list of messages");
        entries
            .iter()
            .map(|entry| text(&entry["message"]))
            .collect()
    }

    pub fn post(&self, path: &str, body: Value) -> Value {
        self.request("POST", &format!("/session/{}{path}", self.session), body)
    }

    pub fn request(&self, method: &str, path: &str, body: Value) -> Value {
        let reply = self.exchange(method, path, &body);
        let reply = reply.unwrap_or_else(|problem| panic!("{method} {path}: {problem}"));
        let value = &reply["value"];
        if let Some(error) = value["error"].as_str() {
            panic!("{method} {path}: {error}: {}", value["message"]);
        }
        value.clone()
    }

    fn exchange(&self, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        )?;
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
        }
        let mut reply = vec![0; length];
        reader.read_exact(&mut reply)?;
        Ok(serde_json::from_slice(&reply)?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium; the driver is ended whether or not that worked.
        let path = format!("/session/{}", self.session);
        let _ = self.exchange("DELETE", &path, &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// The first of `names` in the folders of `PATH`.
fn find(names: &[&str]) -> PathBuf {
    let folders = env::var_os("PATH").unwrap_or_default();
    names
        .iter()
        .flat_map(|name| env::split_paths(&folders).map(move |folder| folder.join(name)))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("no {} on the PATH: {ADVICE}", names.join(", ")))
}

/// The driver chooses its port and names it in its first lines.
fn read_port(output: &mut impl BufRead) -> u16 {
    let mut heard = String::new();
    while output.read_line(&mut heard).expect("readable output") > 0 {
        let named = heard.split("on port ").skip(1).last();
        let digits = named.map(|rest| rest.trim().trim_end_matches('.'));
        match digits.map(str::parse) {
            Some(Ok(port)) if port != 0 => return port,
            _ => continue,
        }
    }
    panic!("chromedriver did not start: {heard}");
}

/// Chromium's sandbox does not work for root.
#[cfg(unix)]
fn owned_by_root(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    folder.metadata().is_ok_and(|data| data.uid() == 0)
}

#[cfg(not(unix))]
fn owned_by_root(_: &Path) -> bool {
    false
}
