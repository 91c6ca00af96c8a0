//! Models by name: the cache of Hugging Face's programs, and a server that
//! plays the hub.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use safetensors::tensor::Dtype;
use serde_json::json;
use sonograd::ErrorKind;
use sonograd::hub::{Download, Hub, ModelName};

use crate::random_model::{self, HEARING, tone, write_wav};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS: &str = "model.safetensors";
/// How the server misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    /// Weights break off after so many bytes of every connection.
    Cut(usize),
    /// Weights are other bytes of the same length.
    Wrong,
    /// Weights are longer than said.
    Long,
    /// It begins at the first byte whatever is asked for.
    NoRanges,
    /// Weights stop after so many bytes, and the connection stays.
    Silent(usize),
    /// Everything is refused with a status and a code.
    Refused(u16, &'static str),
}

/// What was asked of the servers.
#[derive(Clone, Debug)]
struct Request {
    method: String,
    path: String,
    port: u16,
    token: Option<String>,
    from: Option<usize>,
}

/// Two servers: the hub, and the one that it redirects to for weights.
struct Server {
    port: u16,
    other: u16,
    fault: Arc<Mutex<Fault>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

type Files = BTreeMap<String, Vec<u8>>;

/// A whole small model.
fn model() -> Files {
    let folder = tempfile::tempdir().unwrap();
    random_model::write_folder(folder.path(), HEARING);
    let entries = fs::read_dir(folder.path()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let file = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    };
    paths.map(file).collect()
}

/// The name of contents on the hub.
fn etag(file: &str, bytes: &[u8]) -> String {
    let digest = match file.ends_with(".safetensors") {
        true => digest(&SHA256, bytes),
        false => {
            let mut all = format!("blob {}\0", bytes.len()).into_bytes();
            all.extend(bytes);
            digest(&SHA1_FOR_LEGACY_USE_ONLY, &all)
        }
    };
    let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

impl Server {
    fn new(files: Files) -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, other] = [0, 1].map(|i| listeners[i].local_addr().unwrap().port());
        let server = Self {
            port,
            other,
            fault: Arc::default(),
            requests: Arc::default(),
        };
        let files = Arc::new(files);
        for listener in listeners {
            let own = listener.local_addr().unwrap().port();
            let (fault, requests) = (server.fault.clone(), server.requests.clone());
            let files = files.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (fault, requests) = (fault.clone(), requests.clone());
                    let files = files.clone();
                    std::thread::spawn(move || {
                        let Some(request) = read(&stream, own) else {
                            return;
                        };
                        requests.lock().unwrap().push(request.clone());
                        let fault = *fault.lock().unwrap();
                        let _ = answer(stream, &request, &files, fault, own == port, other);
                    });
                }
            });
        }
        server
    }

    fn fault(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// What was asked since this was asked last.
    fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn read(stream: &TcpStream, port: u16) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let mut request = Request {
        method: words.next()?.into(),
        path: words.next()?.into(),
        port,
        token: None,
        from: None,
    };
    for line in lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
    {
        let (name, value) = line.split_once(": ")?;
        match &*name.to_lowercase() {
            "authorization" => request.token = Some(value.into()),
            "range" => {
                let from = value.strip_prefix("bytes=")?.strip_suffix('-')?;
                request.from = Some(from.parse().unwrap());
            }
            _ => {}
        }
    }
    Some(request)
}

fn answer(
    mut stream: TcpStream,
    request: &Request,
    files: &Files,
    fault: Fault,
    is_hub: bool,
    other: u16,
) -> std::io::Result<()> {
    let mut send = |status: &str, headers: &[String], length: usize, body: &[u8]| {
        let headers = headers.iter().map(|header| format!("{header}\r\n"));
        let headers: String = headers.collect();
        write!(
            stream,
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        )?;
        if request.method != "HEAD" {
            stream.write_all(body)?;
        }
        stream.flush()
    };
    if let Fault::Refused(status, code) = fault {
        return send(
            &format!("{status} No"),
            &[format!("X-Error-Code: {code}")],
            0,
            b"",
        );
    }
    let path = &*request.path;
    if let Some(id) = path.strip_prefix("/api/models/") {
        let (id, revision) = id.split_once("/revision/").unwrap();
        if id == "old/name" {
            let to = format!("Location: /api/models/some/model/revision/{revision}");
            return send("307 Moved", &[to], 0, b"");
        }
        if id != "some/model" {
            return send("404 No", &["X-Error-Code: RepoNotFound".into()], 0, b"");
        }
        if !["main", "v1%2Fx", COMMIT].contains(&revision) {
            return send("404 No", &["X-Error-Code: RevisionNotFound".into()], 0, b"");
        }
        let names = files.keys().map(|name| json!({"rfilename": name}));
        let names: Vec<_> = names.collect();
        let body = json!({"sha": COMMIT, "siblings": names}).to_string();
        return send("200 OK", &[], body.len(), body.as_bytes());
    }
    let file = path.rsplit('/').next().unwrap();
    let Some(contents) = files.get(file) else {
        return send("404 No", &["X-Error-Code: EntryNotFound".into()], 0, b"");
    };
    let tag = etag(file, contents);
    if is_hub {
        let commit = format!("X-Repo-Commit: {COMMIT}");
        if file.ends_with(".safetensors") {
            let headers = [
                commit,
                format!("X-Linked-Etag: \"{tag}\""),
                format!("X-Linked-Size: {}", contents.len()),
                "ETag: \"of-the-page\"".into(),
                format!("Location: http://127.0.0.1:{other}/signed/{file}"),
            ];
            return send("302 Found", &headers, 0, b"");
        }
        let headers = [commit, format!("ETag: \"{tag}\"")];
        return send("200 OK", &headers, contents.len(), contents);
    }
    let mut contents = contents.clone();
    if fault == Fault::Wrong {
        contents[0] ^= 1;
    }
    if fault == Fault::Long {
        contents.push(0);
    }
    let from = request.from.filter(|_| fault != Fault::NoRanges);
    let rest = &contents[from.unwrap_or(0)..];
    let sent = match fault {
        Fault::Cut(bytes) | Fault::Silent(bytes) => &rest[..bytes.min(rest.len())],
        _ => rest,
    };
    match from {
        None => send("200 OK", &[], rest.len(), sent),
        Some(from) => {
            let last = contents.len() - 1;
            let range = format!("Content-Range: bytes {from}-{last}/{}", contents.len());
            send("206 Part", &[range], rest.len(), sent)
        }
    }?;
    if let Fault::Silent(_) = fault {
        std::thread::sleep(Duration::from_secs(60));
    }
    Ok(())
}

/// A cache with nothing in it, and a hub.
struct Place {
    folder: tempfile::TempDir,
    server: Server,
    files: Files,
}

impl Place {
    fn new() -> Self {
        Self::with(model())
    }

    fn with(files: Files) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            server: Server::new(files.clone()),
            files,
        }
    }

    fn hub(&self) -> Hub {
        let mut hub = Hub::new(self.folder.path().join("hub"), self.server.endpoint());
        hub.token = Some("hf_secret".into());
        hub
    }

    fn find(&self, name: &str) -> sonograd::Result<PathBuf> {
        let found = self.hub().find(Path::new(name), &mut |_| true)?;
        assert_eq!(found.source.unwrap().revision, COMMIT);
        Ok(found.folder)
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("hub/models--some--model")
    }

    fn snapshot(&self) -> PathBuf {
        self.repository().join("snapshots").join(COMMIT)
    }

    fn blob(&self, file: &str) -> PathBuf {
        let etag = etag(file, &self.files[file]);
        self.repository().join("blobs").join(etag)
    }

    fn half(&self) -> PathBuf {
        let blob = self.blob(WEIGHTS);
        blob.with_file_name(format!(
            "{}.incomplete",
            etag(WEIGHTS, &self.files[WEIGHTS])
        ))
    }

    /// What must be refused: its message.
    fn refused(&self, name: &str, words: &[&str]) -> ErrorKind {
        let error = self.find(name).unwrap_err();
        let message = error.to_string();
        println!("{message}");
        assert_eq!(message.lines().count(), 1);
        assert!(!message.contains("hf_secret"));
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message}");
        }
        error.kind()
    }

    /// Every file is there, whole.
    fn is_whole(&self) {
        for (file, contents) in &self.files {
            assert_eq!(
                &fs::read(self.snapshot().join(file)).unwrap(),
                contents,
                "{file}"
            );
        }
        assert!(!self.half().exists());
    }

    /// As Python's program leaves what it downloads.
    fn by_python(&self, links: bool) {
        fs::create_dir_all(self.snapshot()).unwrap();
        fs::create_dir_all(self.repository().join("blobs")).unwrap();
        fs::create_dir_all(self.repository().join("refs")).unwrap();
        fs::write(self.repository().join("refs/main"), COMMIT).unwrap();
        for (file, contents) in &self.files {
            let place = self.snapshot().join(file);
            if links {
                fs::write(self.blob(file), contents).unwrap();
                let to = format!("../../blobs/{}", etag(file, contents));
                #[cfg(unix)]
                std::os::unix::fs::symlink(to, place).unwrap();
                #[cfg(windows)]
                std::os::windows::fs::symlink_file(to, place).unwrap();
            } else {
                fs::write(place, contents).unwrap();
            }
        }
    }

    fn run(&self, more: &[&str], variables: &[(&str, &str)]) -> Output {
        let sound = self.folder.path().join("sound.wav");
        write_wav(&sound, &tone(8_000));
        let mut command = Command::new(env!("CARGO_BIN_EXE_sonograd"));
        command
            .args(more)
            .args(["--device", "cpu"])
            .current_dir(self.folder.path())
            .env("HF_HOME", self.folder.path())
            .env("HF_ENDPOINT", self.server.endpoint());
        for (name, _) in std::env::vars() {
            let own = name.to_lowercase();
            if ["hf_hub_", "hf_token", "transformers_"]
                .iter()
                .any(|begin| own.starts_with(begin))
                || own.ends_with("_proxy")
            {
                command.env_remove(name);
            }
        }
        command.envs(variables.iter().copied()).output().unwrap()
    }
}

#[test]
fn a_model_is_downloaded_once() {
    let place = Place::new();
    assert_eq!(place.find("some/model").unwrap(), place.snapshot());
    place.is_whole();
    let main = fs::read_to_string(place.repository().join("refs/main")).unwrap();
    assert_eq!(main, COMMIT);
    #[cfg(unix)]
    {
        let link = fs::read_link(place.snapshot().join(WEIGHTS)).unwrap();
        let contents = place.blob(WEIGHTS);
        assert_eq!(
            link,
            Path::new("../../blobs").join(contents.file_name().unwrap())
        );
    }
    let asked = place.server.asked();
    assert!(
        asked
            .iter()
            .any(|request| request.port == place.server.other)
    );
    for Request { port, token, .. } in asked {
        // The token is for the hub alone.
        assert_eq!(token.is_some(), port == place.server.port);
    }
    // Everything is known now, also that there are no other files.
    assert_eq!(place.find("some/model").unwrap(), place.snapshot());
    place.find(&format!("some/model@{COMMIT}")).unwrap();
    assert!(place.server.asked().is_empty());
    let name = ModelName::parse("some/model").unwrap();
    assert_eq!(place.hub().cached(&name).unwrap().folder, place.snapshot());
}

#[test]
fn revisions_and_old_names_lead_to_their_commit() {
    let place = Place::new();
    place.find("some/model@v1/x").unwrap();
    let reference = fs::read_to_string(place.repository().join("refs/v1/x")).unwrap();
    assert_eq!(reference, COMMIT);
    assert!(!place.repository().join("refs/main").exists());
    let found = place
        .hub()
        .find(Path::new("old/name"), &mut |_| true)
        .unwrap();
    assert!(
        found
            .folder
            .ends_with(format!("models--old--name/snapshots/{COMMIT}"))
    );
    let words = ["no branch, tag or commit \"gone\""];
    assert_eq!(place.refused("some/model@gone", &words), ErrorKind::Input);
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    let place = Place::new();
    let length = place.files[WEIGHTS].len();
    place.server.fault(Fault::Cut(length / 3 + 1));
    place.find("some/model").unwrap();
    place.is_whole();
    let from: Vec<usize> = place
        .server
        .asked()
        .iter()
        .filter_map(|own| own.from)
        .collect();
    let third = length / 3 + 1;
    assert!(
        from.contains(&third) && from.contains(&(2 * third)),
        "{from:?}"
    );
}

#[test]
fn a_server_that_falls_silent_is_asked_again() {
    let place = Place::new();
    let half = place.files[WEIGHTS].len() / 2 + 1;
    place.server.fault(Fault::Silent(half));
    let mut hub = place.hub();
    hub.patience = Duration::from_secs(1);
    hub.find(Path::new("some/model"), &mut |_| true).unwrap();
    place.is_whole();
}

#[test]
fn a_proxy_is_the_way_where_one_is_named() {
    let place = Place::new();
    let proxy = ("HTTP_PROXY", "http://127.0.0.1:1");
    let run = ["transcribe", "sound.wav", "--model", "some/model"];
    let output = place.run(&run, &[proxy]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(place.server.asked().is_empty());
    let output = place.run(&run, &[proxy, ("NO_PROXY", "127.0.0.1")]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn who_stops_a_download_keeps_what_is_here() {
    for fault in [Fault::None, Fault::NoRanges] {
        let place = Place::new();
        let mut stop = |download: Download<'_>| download.file != WEIGHTS || download.done == 0;
        let error = place
            .hub()
            .find(Path::new("some/model"), &mut stop)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped);
        let here = fs::metadata(place.half()).unwrap().len() as usize;
        assert!(here > 0);
        // Nothing looks whole that is not.
        assert!(!place.snapshot().join(WEIGHTS).exists() && !place.blob(WEIGHTS).exists());
        assert!(!place.repository().join("refs/main").exists());
        place.server.asked();
        place.server.fault(fault);
        place.find("some/model").unwrap();
        place.is_whole();
        let asked = place.server.asked();
        if here < place.files[WEIGHTS].len() {
            assert!(asked.iter().any(|own| own.from == Some(here)), "{asked:?}");
        }
    }
}

#[test]
fn half_a_file_of_other_contents_is_begun_anew() {
    for length in [10, 1 << 30] {
        let place = Place::new();
        fs::create_dir_all(place.repository().join("blobs")).unwrap();
        let half = fs::File::create(place.half()).unwrap();
        half.set_len(length).unwrap();
        place.find("some/model").unwrap();
        place.is_whole();
    }
}

#[test]
fn contents_that_are_not_the_file_s_are_not_kept() {
    for (fault, word) in [(Fault::Wrong, "checksum"), (Fault::Long, "more bytes")] {
        let place = Place::new();
        place.server.fault(fault);
        let words = ["some/model", word];
        assert_eq!(place.refused("some/model", &words), ErrorKind::Network);
        assert!(!place.blob(WEIGHTS).exists() && !place.snapshot().join(WEIGHTS).exists());
        let left = fs::metadata(place.half()).map_or(0, |half| half.len());
        assert_eq!(left, 0);
        place.server.fault(Fault::None);
        place.find("some/model").unwrap();
        place.is_whole();
    }
}

#[test]
fn a_hub_that_refuses_is_understood() {
    let place = Place::new();
    for (status, code, kind, words) in [
        (
            401,
            "RepoNotFound",
            ErrorKind::Input,
            &["no such folder", "no such model"][..],
        ),
        (
            404,
            "RepoNotFound",
            ErrorKind::Input,
            &["no such model", "private"],
        ),
        (
            403,
            "GatedRepo",
            ErrorKind::Input,
            &["gated", "accept the terms", "HF_TOKEN"],
        ),
        (401, "", ErrorKind::Input, &["does not know the token"]),
        (403, "", ErrorKind::Input, &["forbids"]),
        (429, "", ErrorKind::Network, &["too many requests"]),
        (503, "", ErrorKind::Network, &["503"]),
    ] {
        place.server.fault(Fault::Refused(status, code));
        assert_eq!(place.refused("some/model", words), kind, "{status} {code}");
    }
    place.server.fault(Fault::None);
    place.refused("some/modle", &["no such folder", "no such model"]);
    place.refused("nothing", &["no such folder", "OWNER/NAME"]);
    assert!(!place.repository().join("snapshots").exists());
    let mut hub = place.hub();
    hub.endpoint = "http://127.0.0.1:1".into();
    let error = hub
        .find(Path::new("some/model"), &mut |_| true)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    hub.endpoint = "nowhere".into();
    let error = hub
        .find(Path::new("some/model"), &mut |_| true)
        .unwrap_err();
    assert!(error.to_string().contains("HF_ENDPOINT"), "{error}");
}

#[test]
fn what_python_downloaded_is_found() {
    for links in [true, false] {
        let place = Place::new();
        place.by_python(links);
        let mut hub = place.hub();
        hub.offline = true;
        let found = hub.find(Path::new("some/model"), &mut |_| true).unwrap();
        assert_eq!(found.folder, place.snapshot());
        assert!(place.server.asked().is_empty());
        // Online it is asked once which other files there are.
        place.find("some/model").unwrap();
        assert_eq!(place.server.asked().len(), 1);
        place.find("some/model").unwrap();
        assert!(place.server.asked().is_empty());
        // A hub that does not answer is no reason not to use it.
        fs::remove_dir_all(place.repository().join(".no_exist")).unwrap();
        place.server.fault(Fault::Refused(503, ""));
        place.find("some/model").unwrap();
    }
}

#[test]
fn a_listing_by_python_says_which_files_there_are() {
    let place = Place::new();
    place.by_python(true);
    let trees = place.repository().join("trees");
    fs::create_dir(&trees).unwrap();
    let files = place
        .files
        .keys()
        .map(|name| (name.clone(), json!({"size": 1})));
    let files: serde_json::Map<_, _> = files.collect();
    let tree = json!({"format_version": 1, "files": files}).to_string();
    fs::write(trees.join(format!("{COMMIT}.json")), tree).unwrap();
    place.find("some/model").unwrap();
    assert!(place.server.asked().is_empty());
}

#[test]
fn part_of_a_model_is_completed_or_named() {
    let place = Place::new();
    place.by_python(true);
    fs::remove_file(place.snapshot().join(WEIGHTS)).unwrap();
    fs::remove_file(place.blob(WEIGHTS)).unwrap();
    let mut hub = place.hub();
    hub.offline = true;
    let error = hub
        .find(Path::new("some/model"), &mut |_| true)
        .unwrap_err();
    let message = error.to_string();
    for words in [COMMIT, "lacks model.safetensors", "HF_HUB_OFFLINE"] {
        assert!(message.contains(words), "{message}");
    }
    let error = hub
        .find(Path::new("some/other"), &mut |_| true)
        .unwrap_err();
    assert!(
        error.to_string().contains("no such folder, and not in"),
        "{error}"
    );
    assert!(place.server.asked().is_empty());
    // A link to nothing is in the way.
    #[cfg(unix)]
    std::os::unix::fs::symlink("../../blobs/gone", place.snapshot().join(WEIGHTS)).unwrap();
    place.find("some/model").unwrap();
    place.is_whole();
}

#[test]
fn without_links_the_files_themselves_are_there() {
    let place = Place::new();
    let mut hub = place.hub();
    hub.links = false;
    hub.find(Path::new("some/model"), &mut |_| true).unwrap();
    place.is_whole();
    assert!(!place.snapshot().join(WEIGHTS).is_symlink());
    assert!(!place.blob(WEIGHTS).exists());
}

#[test]
fn shards_come_with_their_index_and_stay_in_the_folder() {
    let mut files = model();
    let weights = files.remove(WEIGHTS).unwrap();
    files.insert("part.safetensors".into(), weights);
    let index = "model.safetensors.index.json";
    let map = |name: &str| json!({"weight_map": {"x": name}}).to_string().into_bytes();
    files.insert(index.into(), map("part.safetensors"));
    files.insert("pytorch_model.bin".into(), vec![0; 10]);
    let place = Place::with(files.clone());
    place.find("some/model").unwrap();
    assert!(place.snapshot().join("part.safetensors").is_file());
    assert!(!place.snapshot().join("pytorch_model.bin").exists());

    files.insert(index.into(), map("../../../../part.safetensors"));
    let place = Place::with(files);
    for _ in 0..2 {
        place.refused("some/model", &[index, "leads out of the folder"]);
    }
    assert!(!place.folder.path().join("part.safetensors").exists());
}

#[test]
fn a_model_without_weights_is_named() {
    let mut files = model();
    files.remove(WEIGHTS);
    files.insert("tf_model.h5".into(), vec![0]);
    let place = Place::with(files);
    place.refused("some/model", &["has none of model.safetensors"]);
}

#[test]
fn an_adapter_in_a_whole_model_s_folder_comes_too() {
    let mut files = model();
    files.insert("adapter_config.json".into(), b"{}".to_vec());
    files.insert("adapter_model.safetensors".into(), vec![1; 9]);
    let place = Place::with(files);
    place.find("some/model").unwrap();
    place.is_whole();
}

#[test]
fn an_adapter_brings_the_model_that_it_is_for() {
    let place = Place::new();
    let adapter = place.folder.path().join("adapter");
    fs::create_dir(&adapter).unwrap();
    let config = json!({"peft_type": "LORA", "base_model_name_or_path": "some/model", "r": 1,
        "lora_alpha": 1});
    fs::write(adapter.join("adapter_config.json"), config.to_string()).unwrap();
    let module = "base_model.model.model.decoder.layers.0.encoder_attn.q_proj";
    let tensor = |part: &str, shape: [usize; 2]| random_model::Tensor {
        name: format!("{module}.lora_{part}.weight"),
        shape: shape.to_vec(),
        data: vec![0.5; HEARING.width],
    };
    random_model::write_tensors(
        &adapter.join("adapter_model.safetensors"),
        &[
            tensor("A", [1, HEARING.width]),
            tensor("B", [HEARING.width, 1]),
        ],
        Dtype::F32,
    );
    let found = place.hub().find(&adapter, &mut |_| true).unwrap();
    assert_eq!((found.folder, found.source), (adapter, None));
    assert_eq!(found.base.unwrap(), place.snapshot());
    // Another adapter's folder of that name is no model.
    let other = place.folder.path().join("some/model");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("adapter_config.json"), "{}").unwrap();
    let run = ["transcribe", "sound.wav", "--model", "adapter"];
    let output = place.run(&run, &[]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{message}");
    place.is_whole();
}

/// An adapter that changes nothing but for its config's entries.
fn adapter_config(base: &str, revision: Option<&str>) -> Vec<u8> {
    let config = json!({"peft_type": "LORA", "base_model_name_or_path": base, "r": 1,
        "lora_alpha": 1, "revision": revision});
    config.to_string().into_bytes()
}

#[test]
fn an_adapter_s_revision_is_its_base_s() {
    let place = Place::new();
    let adapter = place.folder.path().join("adapter");
    fs::create_dir(&adapter).unwrap();
    fs::write(adapter.join("adapter_model.safetensors"), "").unwrap();
    let asked = |base: &str, revision: Option<&str>| {
        let config = adapter_config(base, revision);
        fs::write(adapter.join("adapter_config.json"), config).unwrap();
        let found = place.hub().find(&adapter, &mut |_| true);
        let paths: Vec<String> = place
            .server
            .asked()
            .into_iter()
            .map(|own| own.path)
            .collect();
        let begin = "/api/models/some/model/revision/";
        let revisions = paths.iter().filter_map(|path| path.strip_prefix(begin));
        (revisions.map(str::to_owned).collect::<Vec<_>>(), found)
    };
    let (revisions, found) = asked("some/model", Some("v1/x"));
    assert_eq!(revisions, ["v1%2Fx"]);
    assert_eq!(found.unwrap().base.unwrap(), place.snapshot());
    // One in the name goes before.
    let (revisions, found) = asked("some/model@main", Some("gone"));
    assert_eq!(revisions, ["main"]);
    assert_eq!(found.unwrap().base.unwrap(), place.snapshot());
    for (base, revision, words) in [
        (
            "some/model",
            Some("gone"),
            "no branch, tag or commit \"gone\"",
        ),
        ("some/model", Some("../.."), "revision \"../..\""),
        ("some/other", None, "no such model"),
    ] {
        let (_, found) = asked(base, revision);
        let error = found.unwrap_err();
        let message = error.to_string();
        assert!(message.contains("adapter_config.json"), "{message}");
        assert!(message.contains(words), "{message}");
        assert_eq!(error.kind(), ErrorKind::File);
    }
}

#[test]
fn parts_of_a_model_with_an_adapter_are_not_enough() {
    let mut files = model();
    files.insert(
        "adapter_config.json".into(),
        adapter_config("some/model", None),
    );
    files.insert("adapter_model.safetensors".into(), vec![1; 9]);
    for gone in [
        &["adapter_model.safetensors"][..],
        &[WEIGHTS],
        &[WEIGHTS, "adapter_model.safetensors"],
    ] {
        let place = Place::with(files.clone());
        place.by_python(true);
        for file in gone {
            fs::remove_file(place.snapshot().join(file)).unwrap();
            fs::remove_file(place.blob(file)).unwrap();
        }
        place.find("some/model").unwrap();
        place.is_whole();
        place.server.asked();
        place.find("some/model").unwrap();
        assert!(place.server.asked().is_empty());
    }
    // Without a network it is said what is lacking.
    let place = Place::with(files.clone());
    place.by_python(true);
    fs::remove_file(place.snapshot().join("adapter_model.safetensors")).unwrap();
    let mut hub = place.hub();
    hub.offline = true;
    let error = hub.find(Path::new("some/model"), &mut |_| true);
    let message = error.unwrap_err().to_string();
    assert!(
        message.contains("lacks adapter_model.safetensors"),
        "{message}"
    );
    // A config alone is of no adapter; that there is none is known then.
    files.remove("adapter_model.safetensors");
    let place = Place::with(files);
    place.find("some/model").unwrap();
    let mut hub = place.hub();
    hub.offline = true;
    hub.find(Path::new("some/model"), &mut |_| true).unwrap();
}

#[test]
fn the_longest_patience_is_one() {
    let place = Place::new();
    let mut hub = place.hub();
    for patience in [Duration::MAX, Duration::from_secs(u64::MAX)] {
        hub.patience = patience;
        hub.find(Path::new("some/model"), &mut |_| true).unwrap();
        fs::remove_dir_all(place.repository()).unwrap();
    }
}

#[test]
fn two_at_once_download_one_model() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| place.find("some/model").unwrap());
        }
    });
    place.is_whole();
    let asked = place.server.asked();
    let weights = asked.iter().filter(|own| own.port == place.server.other);
    assert_eq!(weights.count(), 1);
}

#[test]
fn the_program_takes_names() {
    let place = Place::new();
    let run = [
        "explain",
        "sound.wav",
        "--model",
        "some/model",
        "--method",
        "attention",
    ];
    let output = place.run(&run, &[("HF_TOKEN", "hf_own")]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{message}");
    let tokens = place.server.asked();
    let tokens = tokens.iter().filter_map(|own| own.token.as_deref());
    assert!(tokens.into_iter().all(|token| token == "Bearer hf_own"));
    let explained = place.folder.path().join("sound.explained/explanation.json");
    let document: serde_json::Value =
        serde_json::from_slice(&fs::read(explained).unwrap()).unwrap();
    assert_eq!(document["model"]["name"], "some/model");
    assert_eq!(document["model"]["revision"], COMMIT);

    let run = ["transcribe", "sound.wav", "--model", "some/model"];
    let output = place.run(&run, &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(output.status.code(), Some(0));
    assert!(place.server.asked().is_empty());

    let run = ["transcribe", "sound.wav", "--model", "some/other"];
    let output = place.run(&run, &[("HF_HUB_OFFLINE", "1")]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        message.lines().count() == 1 && message.contains("no such folder"),
        "{message}"
    );

    // The folder goes before the name.
    let folder = place.folder.path().join("some/model");
    fs::create_dir_all(&folder).unwrap();
    let run = ["transcribe", "sound.wav", "--model", "some/model"];
    let output = place.run(&run, &[("HF_HUB_OFFLINE", "1")]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("some/model/config.json"), "{message}");
}

#[test]
fn a_study_names_the_commit() {
    let place = Place::new();
    let manifest = "id\taudio\ttgt_text\tsrc_lang\ttgt_lang\na\tsound.wav\tx\ten\ten\n";
    fs::write(place.folder.path().join("list.tsv"), manifest).unwrap();
    let run = [
        "study",
        "list.tsv",
        "--model",
        "some/model",
        "--out",
        "out",
        "--method",
        "attention",
    ];
    let output = place.run(&run, &[]);
    let message = String::from_utf8(output.stderr).unwrap();
    let log = place.folder.path().join("out/some--model.jsonl");
    let log = fs::read_to_string(log).unwrap_or_else(|_| panic!("{message}"));
    let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(first["model"], "some/model");
    assert_eq!(first["revision"], COMMIT);
}
