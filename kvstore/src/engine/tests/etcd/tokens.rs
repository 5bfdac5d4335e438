//! Tokens that end, on hosts whose clocks differ by an hour: etcd counts for how long they are there.

use kvstore_core::{
    credentials::{Digest, Token},
    names::TokenId,
};

use super::*;

/// For so long a token is there.
const LIFETIME: Duration = Duration::from_secs(3);

/// As a host makes it whose clock is so many seconds behind ours, or ahead.
fn token(number: u8, behind: i64) -> Command {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    let made = Duration::from_secs(now.as_secs().checked_add_signed(-behind).unwrap());
    let token = Token {
        accessor: TokenId::new(&format!("{number:08x}-0000-4000-8000-000000000000")).unwrap(),
        secret: Some(Digest([number; 32])),
        description: String::new(),
        policies: Vec::new(),
        local: false,
        made,
        ends: made + LIFETIME,
    };
    Command::CreateToken { token: token.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_after_its_time_whatever_the_clock_of_who_sees_it() {
    let Some(server) = Server::start() else { return };
    let (maker, maker_writer) = store(server.engine("/flotilla"));
    let mut made = Instant::now();
    for command in [token(1, 3600), token(2, -3600), token(3, 0)] {
        made = Instant::now();
        maker.submit(command).await.unwrap();
    }
    // One that reads all at its start, and is there when the maker is gone.
    let (left, left_writer) = store(server.engine("/flotilla"));
    tokio::task::spawn_blocking(|| maker_writer.stop()).await.unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let timer = tokio::spawn({
        let (left, shutdown) = (left.clone(), shutdown.clone());
        async move { left.keep_deadlines(shutdown).await }
    });
    let count = || left.state().credentials().tokens().count();
    while count() > 0 {
        assert!(made.elapsed() < Duration::from_mins(1), "{} are left", count());
        assert!(made.elapsed() >= LIFETIME || count() == 3, "{} are left after {:?}", count(), made.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("three tokens of {LIFETIME:?} were gone after {:?}", made.elapsed());
    assert_eq!(server.ctl(&["get", "--prefix", "/flotilla/rows/a/t/", "--keys-only"]), "");
    shutdown.cancel();
    timer.await.unwrap();
    tokio::task::spawn_blocking(|| left_writer.stop()).await.unwrap();
}
