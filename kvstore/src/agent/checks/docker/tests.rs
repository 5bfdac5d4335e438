use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use bollard::API_DEFAULT_VERSION;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};

use super::*;

const TIMEOUT: Duration = Duration::from_millis(500);

/// As much of Docker as runs a program in the container `web`: it says what it says, and ends with a code or never.
#[derive(Debug, Default)]
struct Fake {
    says: Vec<(u8, &'static str)>,
    code: u8,
    hangs: AtomicBool,
    started: AtomicUsize,
}

impl Fake {
    async fn serve(self: Arc<Self>, listener: UnixListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let fake = self.clone();
            tokio::spawn(async move { fake.answer(BufReader::new(stream)).await });
        }
    }

    async fn answer(&self, mut stream: BufReader<UnixStream>) -> Option<()> {
        loop {
            let (line, body) = request(&mut stream).await?;
            let json = |status: &str, body: &str| {
                let length = body.len();
                format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
            };
            let answer = if line.contains("/containers/web/exec ") {
                assert!(body.contains(r#""Cmd":["check","--now"]"#), "{body}");
                json("201 Created", r#"{"Id":"e1"}"#)
            } else if line.contains("/exec ") {
                json("404 Not Found", r#"{"message":"No such container: gone"}"#)
            } else if line.contains("/exec/e1/start ") {
                self.started.fetch_add(1, Ordering::SeqCst);
                return self.run(stream.into_inner()).await;
            } else {
                let running = self.hangs.load(Ordering::SeqCst);
                json("200 OK", &format!(r#"{{"ID":"e1","Running":{running},"ExitCode":{}}}"#, self.code))
            };
            stream.write_all(answer.as_bytes()).await.ok()?;
        }
    }

    /// Both streams of the program in one, in frames.
    async fn run(&self, mut stream: UnixStream) -> Option<()> {
        stream.write_all(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n").await.ok()?;
        for (number, text) in &self.says {
            let length = u32::try_from(text.len()).unwrap().to_be_bytes();
            stream.write_all(&[&[*number, 0, 0, 0][..], &length, text.as_bytes()].concat()).await.ok()?;
        }
        while self.hangs.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(())
    }
}

/// The first line and the body of a request.
async fn request(stream: &mut BufReader<UnixStream>) -> Option<(String, String)> {
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).await.ok().filter(|read| *read > 0)?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        match line.trim_end().to_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((first, String::from_utf8(body).ok()?))
}

/// Containers of `fake`, at a socket in `dir`.
fn containers(fake: &Arc<Fake>, dir: &tempfile::TempDir) -> Containers {
    let path = dir.path().join("docker.sock");
    tokio::spawn(fake.clone().serve(UnixListener::bind(&path).unwrap()));
    let api = Docker::connect_with_unix(path.to_str().unwrap(), 5, API_DEFAULT_VERSION).unwrap();
    Containers { api: OnceCell::new_with(Some(api)), hanging: Mutex::default() }
}

async fn probe(containers: &Containers, container: &str, max: usize) -> (Status, String) {
    match containers.probe(container, &["check".into(), "--now".into()], max, TIMEOUT).await {
        Finding::Found { status, output } => (status, output),
        Finding::NotTried(why) => panic!("not tried: {why}"),
    }
}

#[tokio::test]
async fn the_exit_code_in_the_container_is_the_status() {
    for (code, status) in [(0, Status::Passing), (1, Status::Warning), (2, Status::Critical), (137, Status::Critical)] {
        let dir = tempfile::tempdir().unwrap();
        let fake = Arc::new(Fake { says: vec![(1, "out\n"), (2, "err\n")], code, ..Fake::default() });
        let containers = containers(&fake, &dir);
        assert_eq!(probe(&containers, "web", 4096).await, (status, "out\nerr\n".into()), "{code}");
        assert_eq!(probe(&containers, "web", 4).await.1, "Captured 4 of 8 bytes\n...\nerr\n");
        let (status, output) = probe(&containers, "gone", 4096).await;
        assert!(status == Status::Critical && output.contains("No such container: gone"), "{output}");
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_not_started_again_before_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Arc::new(Fake { says: vec![(1, "starting\n")], hangs: true.into(), ..Fake::default() });
    let containers = containers(&fake, &dir);
    let timed_out = (Status::Critical, "Timed out (500ms) running check\n\nstarting\n".to_owned());
    assert_eq!(probe(&containers, "web", 4096).await, timed_out);
    for _ in 0..2 {
        let (status, output) = probe(&containers, "web", 4096).await;
        assert!(status == Status::Critical && output.contains("it is not started again"), "{output}");
    }
    assert_eq!(fake.started.load(Ordering::SeqCst), 1);
    fake.hangs.store(false, Ordering::SeqCst);
    assert_eq!(probe(&containers, "web", 4096).await, (Status::Passing, "starting\n".into()));
    assert_eq!(fake.started.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn without_docker_it_is_critical_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let containers = containers(&Arc::new(Fake::default()), &dir);
    std::fs::remove_file(dir.path().join("docker.sock")).unwrap();
    let (status, output) = probe(&containers, "web", 4096).await;
    assert!(status == Status::Critical && output.starts_with("Docker exec in web: "), "{output}");
}
