//! The kernel's WireGuard, told by netlink. It goes on while this program is down, and what it was told before is taken
//! over: only differences are told (`changes`, pure).

mod changes;
mod netlink;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use netlink_packet_generic::{
    GenlMessage,
    ctrl::{GenlCtrl, GenlCtrlCmd, nlas::GenlCtrlAttrs},
};
use netlink_packet_wireguard::{WireguardAttribute, WireguardCmd, WireguardMessage, WireguardPeer};
use nix::errno::Errno;
use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL},
    packet_route::{
        RouteNetlinkMessage,
        link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, Stats64},
    },
    sys::constants::{NETLINK_GENERIC, NETLINK_ROUTE},
};

use self::netlink::Line;
use super::{Dataplane, DeviceError, Dropped, Peer, PeerStatus, Plane, Settings};
use crate::keys::PublicKey;

/// Peers in one message: with their addresses well below what a message holds.
const PEERS_AT_ONCE: usize = 64;

/// A tunnel of the kernel's.
pub(super) struct Kernel {
    settings: Settings,
    lines: Mutex<Lines>,
}

/// Why the kernel has no tunnel for us.
#[derive(Debug)]
pub(super) enum Refused {
    /// It knows no WireGuard: something else can be tried.
    Absent(String),
    /// It does, but not like this.
    Failed(DeviceError),
}

/// The two parts of the kernel that are spoken to.
struct Lines {
    links: Line,
    generic: Line,
    /// The number of WireGuard's messages; known once the module is there.
    family: Option<u16>,
    /// What the peers were told to be.
    told: BTreeMap<PublicKey, Peer>,
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// A WireGuard device with this host's key: of an earlier life of this program.
    Ours,
    Foreign,
}

impl Kernel {
    /// Makes the interface, or takes over the one that an earlier life left.
    pub(super) fn open(settings: &Settings) -> Result<Self, Refused> {
        let failed = |what: &str, e: &io::Error| Refused::Failed(settings.error(&format!("{what}: {}", why(e))));
        let mut lines = Lines::new().map_err(|e| failed("cannot speak netlink", &e))?;
        let name = &settings.interface;
        let found = lines.find(settings).map_err(|e| failed("cannot look for the interface", &e))?;
        match found {
            Found::Foreign => return Err(Refused::Failed(settings.error(super::TAKEN))),
            Found::Ours => {}
            Found::Nothing => lines.make(name).map_err(|e| match e.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EOPNOTSUPP) => Refused::Absent(
                    "this kernel has no WireGuard; where there is a module for it: modprobe wireguard".into(),
                ),
                _ => failed("cannot make the interface", &e),
            })?,
        }
        let started = lines.start(settings);
        if let Err(e) = started {
            if found == Found::Nothing {
                // Nothing of it is to be left.
                let _ = lines.remove(name);
            }
            return Err(failed(&format!("cannot start on UDP port {}", settings.port), &e));
        }
        Ok(Self { settings: settings.clone(), lines: Mutex::new(lines) })
    }

    /// Removes what a tunnel of an earlier life of this program left, before another kind takes its name.
    pub(super) fn remove_leftover(settings: &Settings) -> io::Result<()> {
        let mut lines = Lines::new()?;
        if lines.find(settings)? == Found::Ours {
            lines.remove(&settings.interface)?;
        }
        Ok(())
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn why(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => super::NO_RIGHT.into(),
        Some(Errno::EADDRINUSE) => "it is taken by another program (ss -ulpn shows by whom); choose another".into(),
        _ => error.to_string(),
    }
}

impl Lines {
    fn new() -> io::Result<Self> {
        let (links, generic) = (Line::to(NETLINK_ROUTE)?, Line::to(NETLINK_GENERIC)?);
        Ok(Self { links, generic, family: None, told: BTreeMap::new() })
    }

    fn find(&mut self, settings: &Settings) -> io::Result<Found> {
        let Some(link) = self.link(&settings.interface)? else { return Ok(Found::Nothing) };
        if !is_wireguard(&link) {
            return Ok(Found::Foreign);
        }
        let key = changes::public_key(&self.device(&settings.interface)?);
        Ok(if key == Some(settings.key.public()) { Found::Ours } else { Found::Foreign })
    }

    fn link(&mut self, name: &str) -> io::Result<Option<LinkMessage>> {
        match self.links.ask(RouteNetlinkMessage::GetLink(named(name)), 0) {
            Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(link),
                _ => None,
            })),
            Err(e) if e.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn make(&mut self, name: &str) -> io::Result<()> {
        let mut link = named(name);
        link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Wireguard)]));
        self.links.ask(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.links.ask(RouteNetlinkMessage::DelLink(named(name)), 0).map(drop)
    }

    /// Key and port, then up.
    fn start(&mut self, settings: &Settings) -> io::Result<()> {
        self.tell(
            &settings.interface,
            vec![
                WireguardAttribute::PrivateKey(settings.key.secret().to_bytes()),
                WireguardAttribute::ListenPort(settings.port),
            ],
        )?;
        let mut link = named(&settings.interface);
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        link.attributes.push(LinkAttribute::Mtu(settings.mtu.into()));
        self.links.ask(RouteNetlinkMessage::SetLink(link), 0).map(drop)
    }

    /// All that the kernel tells of a WireGuard device.
    fn device(&mut self, name: &str) -> io::Result<Vec<WireguardMessage>> {
        let attributes = vec![WireguardAttribute::IfName(name.into())];
        self.wireguard(WireguardMessage { cmd: WireguardCmd::GetDevice, attributes }, NLM_F_DUMP)
    }

    fn tell(&mut self, name: &str, mut attributes: Vec<WireguardAttribute>) -> io::Result<()> {
        attributes.insert(0, WireguardAttribute::IfName(name.into()));
        self.wireguard(WireguardMessage { cmd: WireguardCmd::SetDevice, attributes }, 0).map(drop)
    }

    fn wireguard(&mut self, message: WireguardMessage, flags: u16) -> io::Result<Vec<WireguardMessage>> {
        let family = match self.family {
            Some(family) => family,
            None => self.resolve()?,
        };
        self.family = Some(family);
        let mut message = GenlMessage::from_payload(message);
        message.set_resolved_family_id(family);
        Ok(self.generic.ask(message, flags)?.into_iter().map(|answer| answer.payload).collect())
    }

    fn resolve(&mut self) -> io::Result<u16> {
        let nlas = vec![GenlCtrlAttrs::FamilyName("wireguard".into())];
        let message = GenlMessage::from_payload(GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas });
        let answers = self.generic.ask(message, 0)?;
        let number = answers.iter().flat_map(|answer| &answer.payload.nlas).find_map(|attribute| match attribute {
            GenlCtrlAttrs::FamilyId(number) => Some(*number),
            _ => None,
        });
        number.ok_or_else(|| io::Error::from(Errno::ENOENT))
    }

    fn set_peers(&mut self, name: &str, wanted: &[Peer]) -> io::Result<()> {
        let there: BTreeSet<_> =
            changes::peers(&self.device(name)?, SystemTime::now()).into_iter().map(|peer| peer.key).collect();
        for some in changes::changes(&there, &self.told, wanted).chunks(PEERS_AT_ONCE) {
            let peers: Vec<WireguardPeer> = some.to_vec();
            self.tell(name, vec![WireguardAttribute::Peers(peers)])?;
        }
        self.told = wanted.iter().map(|peer| (peer.key, peer.clone())).collect();
        Ok(())
    }
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.into()));
    link
}

fn is_wireguard(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Wireguard)),
        _ => false,
    })
}

/// What the kernel counts by why; datagrams that repeat others it does not.
fn dropped(statistics: &Stats64) -> Dropped {
    Dropped {
        malformed: statistics.rx_length_errors,
        replayed: 0,
        spoofed: statistics.rx_frame_errors,
        unroutable: statistics.tx_errors,
        unfit: 0,
        unsent: statistics.tx_dropped,
    }
}

impl Dataplane for Kernel {
    fn plane(&self) -> Plane {
        Plane::Kernel
    }

    fn set_peers(&self, peers: &[Peer]) -> Result<(), DeviceError> {
        super::disjoint(&self.settings, peers)?;
        let changed = self.lines().set_peers(&self.settings.interface, peers);
        changed.map_err(|e| self.settings.error(&format!("cannot change the peers: {}", why(&e))))
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let told = self.lines().device(&self.settings.interface);
        told.map(|answers| changes::peers(&answers, SystemTime::now())).unwrap_or_default()
    }

    fn dropped(&self) -> Dropped {
        let Ok(Some(link)) = self.lines().link(&self.settings.interface) else { return Dropped::default() };
        let statistics = link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(statistics) => Some(dropped(&statistics)),
            _ => None,
        });
        statistics.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::PrivateKey;

    fn settings() -> Settings {
        Settings { interface: "ovl-probe0".into(), key: PrivateKey::generate().unwrap(), port: 0, mtu: 1_420 }
    }

    #[test]
    fn the_kernel_is_asked_for_links_and_answers() {
        let mut lines = Lines::new().unwrap();
        assert!(lines.link("lo").unwrap().is_some_and(|link| !is_wireguard(&link)));
        assert_eq!(lines.link("no-such-link").unwrap(), None);
        assert_eq!(lines.find(&settings()).unwrap(), Found::Nothing);
        assert_eq!(lines.find(&Settings { interface: "lo".into(), ..settings() }).unwrap(), Found::Foreign);
        Kernel::remove_leftover(&Settings { interface: "lo".into(), ..settings() }).unwrap();
        assert!(lines.link("lo").unwrap().is_some(), "what is not ours stays");
    }

    #[test]
    fn a_name_that_is_taken_is_refused_before_anything_else() {
        let refused = Kernel::open(&Settings { interface: "lo".into(), ..settings() }).err();
        assert!(matches!(refused, Some(Refused::Failed(e)) if e.why == super::super::TAKEN));
    }

    #[test]
    fn what_the_kernel_counts_has_a_place() {
        let mut statistics = Stats64::default();
        (statistics.rx_frame_errors, statistics.tx_errors) = (3, 4);
        assert_eq!(dropped(&statistics), Dropped { spoofed: 3, unroutable: 4, ..Dropped::default() });
    }
}
