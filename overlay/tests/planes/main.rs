//! The data planes, by real packets between hosts that are network namespaces: one battery for all kinds of them.

mod hostile;
mod hosts;
mod interop;
mod peers;
mod traffic;

use std::process::ExitCode;

use flotilla_tests::{
    needs::Need,
    story::{Story, run},
};

const NEEDS: [Need; 3] = [Need::Root, Need::Tun, Need::Program("ip")];

fn main() -> ExitCode {
    let story = |name, tell: fn()| Story::new(name, NEEDS, move || async move { tell() });
    let with = |name, programs: &[&'static str], tell: fn()| {
        let needs = NEEDS.into_iter().chain(programs.iter().copied().map(Need::Program));
        Story::new(name, needs, move || async move { tell() })
    };
    run(vec![
        story("user_pairs", traffic::pairs),
        story("user_sizes", traffic::sizes),
        story("user_bulk", traffic::bulk),
        story("user_first_packet", traffic::first_packet),
        story("user_no_clear_text", traffic::no_clear_text),
        with("user_loss", &["nft"], traffic::loss),
        story("user_strangers", peers::strangers),
        story("user_moved", peers::moved),
        story("user_removed", peers::removed),
        story("user_others_change", peers::others_change),
        story("user_secrets_change", peers::secrets_change),
        story("user_restarted", peers::restarted),
        story("user_refuses", peers::refuses),
        story("user_spoofed", hostile::spoofed),
        story("user_replayed", hostile::replayed),
        story("user_garbage", hostile::garbage),
        with("user_wireguard_go", &["wireguard-go", "wg"], interop::wireguard_go),
    ])
}
