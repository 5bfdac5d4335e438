//! The bed itself: that its faults are the faults that they are said to be, or no story about them would show anything.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use flotilla_tests::{
    bed::{Bed, Cable, Cut},
    eventually,
    program::Launch,
    web,
};
use nix::{sys::signal::kill, unistd::Pid};
use reqwest::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    time::{sleep, timeout},
};

/// What is not there this long after all else is lost.
const LOST: Duration = Duration::from_millis(400);

pub(crate) async fn story() {
    let mut bed = Bed::new(3);
    links(&bed).await;
    slow(&mut bed).await;
    narrow(&bed).await;
    disk(&bed).await;
    drop(bed);
    taken_down().await;
}

/// What came of numbered datagrams: in the order of their arrival, each with its time under way.
type Arrived = Vec<(u32, Duration)>;

/// Sends `count` datagrams, one about every `pause`.
async fn send(bed: &Bed, from: usize, to: usize, count: u32, pause: Duration) -> Arrived {
    let address = SocketAddr::new(bed.host(to).address.into(), 9000);
    let start = Instant::now();
    let socket = bed.host(to).run(async move { UdpSocket::bind(address).await.expect("nobody has the port") }).await;
    let receiving = bed.host(to).spawn(async move {
        let (mut arrived, mut datagram) = (Vec::new(), [0; 12]);
        // The first may take as long as all of them are sent.
        let mut patience = pause * count + LOST;
        while let Ok(Ok(_)) = timeout(patience, socket.recv(&mut datagram)).await {
            let [a, b, c, d, sent @ ..] = datagram;
            let sent = Duration::from_micros(u64::from_be_bytes(sent));
            arrived.push((u32::from_be_bytes([a, b, c, d]), start.elapsed().saturating_sub(sent)));
            patience = LOST;
        }
        arrived
    });
    let sending = async move {
        let socket = UdpSocket::bind("0.0.0.0:0").await.expect("there is a port");
        for number in 0..count {
            let micros = u64::try_from(start.elapsed().as_micros()).expect("a story is shorter");
            let datagram = [&number.to_be_bytes()[..], &micros.to_be_bytes()].concat();
            // Where nobody answers for the address this fails, now and then.
            let _ = socket.send_to(&datagram, address).await;
            sleep(pause).await;
        }
    };
    bed.host(from).run(sending).await;
    receiving.await.expect("it does not panic")
}

async fn arrive(bed: &Bed, from: usize, to: usize) -> usize {
    send(bed, from, to, 50, Duration::from_millis(1)).await.len()
}

async fn links(bed: &Bed) {
    assert_eq!(arrive(bed, 0, 1).await, 50, "nothing is cut");
    for (cut, forth, back, elsewhere) in
        [(Cut::Host(1), 0, 0, 50), (Cut::Between(0, 1), 0, 0, 50), (Cut::From(0, 1), 0, 50, 50)]
    {
        bed.cut(cut);
        let seen = (arrive(bed, 0, 1).await, arrive(bed, 1, 0).await, arrive(bed, 0, 2).await);
        assert_eq!(seen, (forth, back, elsewhere), "{cut:?}");
        bed.mend(cut);
    }
    bed.lose(1, 300);
    let arrived = send(bed, 0, 1, 1500, Duration::from_micros(100)).await.len();
    println!("  of 1500 datagrams over a link that loses 30 %: {arrived} arrive");
    // Five standard deviations to each side.
    assert!((960..=1140).contains(&arrived), "{arrived}");
    bed.lose(1, 0);
    assert_eq!(arrive(bed, 0, 1).await, 50, "all is mended");
}

async fn slow(bed: &mut Bed) {
    let (delay, jitter) = (Duration::from_millis(20), Duration::from_millis(20));
    bed.plug(1, Cable::Slow { delay, jitter }).await;
    eventually!("the cable is plugged in", Duration::from_secs(5), async {
        if arrive(bed, 0, 1).await == 50 { Ok(()) } else { Err("nothing arrives") }
    });
    let arrived = send(bed, 0, 1, 300, Duration::from_millis(1)).await;
    let overtaken = arrived.windows(2).filter(|two| two[0].0 > two[1].0).count();
    let mut times: Vec<_> = arrived.iter().map(|(_, time)| *time).collect();
    times.sort();
    let (least, middle) = (times[0], times[times.len() / 2]);
    println!(
        "  over a cable of 20 to 40 ms: {least:?} at least, {middle:?} in the middle, {overtaken} of 300 overtaken"
    );
    assert_eq!(arrived.len(), 300);
    assert!(least >= delay && middle < 3 * delay, "{least:?} {middle:?}");
    assert!(overtaken > 10, "{overtaken}");
    bed.plug(1, Cable::Plain).await;
    assert_eq!(arrive(bed, 0, 1).await, 50);
}

/// How long a megabyte takes from the first host to the second.
async fn megabyte(bed: &Bed) -> Duration {
    let address = SocketAddr::new(bed.host(1).address.into(), 9001);
    let listener = bed.host(1).run(async move { TcpListener::bind(address).await.expect("nobody has the port") }).await;
    let receiving = bed.host(1).spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody connects");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.map(|_| all.len())
    });
    let start = Instant::now();
    let sending = async move {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(&vec![1; 1 << 20]).await.expect("it reads");
    };
    bed.host(0).run(sending).await;
    assert_eq!(receiving.await.expect("it does not panic").expect("it is read"), 1 << 20);
    start.elapsed()
}

async fn narrow(bed: &Bed) {
    let wide = megabyte(bed).await;
    bed.host(1).narrow(bed, "8mbit");
    let narrow = megabyte(bed).await;
    println!("  a megabyte takes {wide:?}; where 8 Mbit a second get through, {narrow:?}");
    // Eight megabits and some headers, less what the bucket lets through at once.
    assert!(narrow >= Duration::from_millis(900) && narrow < Duration::from_secs(4), "{narrow:?}");
}

/// A kvstore on a disk that fills up: reads go on, writes are refused until there is room again.
async fn disk(bed: &Bed) {
    let (host, dir) = (bed.host(2), tempfile::tempdir().expect("a temporary directory can be made"));
    host.mount(dir.path(), 64);
    let data = dir.path().join("data");
    let launch = Launch::ours("kvstore").args(["agent", "--node", "h3", "--http-addr", "0.0.0.0:8500", "--data-dir"]);
    let _agent = host.start(launch.args([&data]));
    let url = format!("http://{}:8500/v1/kv/a", host.address);
    let mut count = 0;
    let mut put = async |size: usize| {
        // What is there already would not be written again.
        count += 1;
        let (url, value) = (url.clone(), format!("{count}{}", "x".repeat(size)));
        host.run(async move { web::send(Method::PUT, &url, value).await.map(|answer| answer.status) }).await
    };
    let limit = Duration::from_secs(20);
    eventually!("it writes", limit, async { if put(100).await? == 200 { Ok(()) } else { Err("refused".to_owned()) } });
    host.fill(dir.path());
    eventually!("a write is refused", limit, async {
        match put(500_000).await? {
            503 => Ok(()),
            other => Err(other.to_string()),
        }
    });
    let read = url.clone();
    assert!(host.run(async move { web::get(&read).await }).await.is_ok(), "reads go on");
    host.clear(dir.path());
    eventually!("it writes again", limit, async {
        if put(100).await? == 200 { Ok(()) } else { Err("refused".to_owned()) }
    });
}

/// What a story that fails, or a run that is killed, leaves behind: nothing.
async fn taken_down() {
    let mut pids = Vec::new();
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let bed = Bed::new(2);
        let program = bed.host(0).start(Launch::new("sleep").args(["1000"]));
        pids.push(program.pid());
        panic!("this panic is part of the story");
    }));
    assert!(failed.is_err());
    // A thread that starts a program and is gone: so ends a run that is killed, without a word to anything.
    let abandoned = std::thread::spawn(|| {
        let bed = Bed::new(1);
        let program = bed.host(0).start(Launch::new("sh").args(["-c", "echo runs; exec sleep 1000"]));
        while !program.log().contains("runs") {
            std::thread::sleep(Duration::from_millis(10));
        }
        let pid = program.pid();
        std::mem::forget((program, bed));
        pid
    });
    pids.push(abandoned.join().expect("it does not panic"));
    eventually!("all has ended", Duration::from_secs(10), async {
        let state = |pid: Pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Nobody collects a child that was forgotten; then it stays as a zombie.
        let left: Vec<_> =
            pids.iter().filter(|pid| kill(**pid, None).is_ok() && !state(**pid).contains(") Z ")).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}
