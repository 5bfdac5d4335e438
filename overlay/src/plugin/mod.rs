//! Docker's driver of networks and of addresses, called `flotilla`. It answers from what this host has on its disk and in
//! its memory: no call waits for the registry or asks Docker, which may be waiting for the answer.

mod beside;
mod book;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod nat;
pub mod protocol;
mod server;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::stream;
use ipnet::IpNet;
use kvstore_client::with_causes;
use rand::{TryRng, rngs::SysRng};
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    book::{Book, Bridge, Done, Pair, Refusal, Step, World},
    nat::Nat,
    protocol::{Answer, Call, Id},
};
use crate::{
    files::write_whole,
    link::{LinkError, Links, Owner, Peer, Route, Way},
    mesh::Mesh,
    network::NetworkName,
    news::{self, Found, Look, Told, Why},
};

pub(crate) use self::book::ends;
pub use self::{
    book::{Asked, Attachment, Bridged, Holder, Made, OFFERED, Place, Way as AttachedWay},
    server::{Socket, bind, serve},
};

/// Docker waits for ever: whoever has no answer by then says so.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How long a call waits for what the mesh is about to tell, such as the first block of a new network.
const MESH_LIMIT: Duration = Duration::from_millis(1500);

/// Where it is called unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/docker/plugins/flotilla.sock";

/// The driver; cheap to clone.
#[derive(Clone)]
pub struct Plugin(Arc<Inner>);

struct Inner {
    book: Mutex<Book>,
    file: PathBuf,
    links: Links,
    mesh: Mesh,
    /// What the kernel was told last.
    nat: Mutex<Option<Nat>>,
}

/// Why there is no driver.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// What was told cannot be read.
    #[error("cannot read {}, where what Docker was told is kept", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A later version wrote it.
    #[error("{} is of a later version (format {format}, this one knows {}); it is left as it is: use that version", path.display(), Book::FORMAT)]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// There is no place to be called at.
    #[error("cannot listen at {}, where Docker looks for its drivers", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Plugin {
    /// The driver whose book is `file`, for the containers of the namespace of `links`.
    ///
    /// # Errors
    /// [`PluginError::File`] or [`PluginError::Newer`]; the file is left as it is.
    pub fn new(file: PathBuf, links: Links, mesh: Mesh) -> Result<Self, PluginError> {
        let book = read(&file)?;
        mesh.tell_pools(book.given());
        Ok(Self(Arc::new(Inner { book: Mutex::new(book), file, links, mesh, nat: Mutex::default() })))
    }

    /// Answers a call; within two seconds, whatever happens.
    ///
    /// # Errors
    /// For Docker, which shows it to its user.
    pub async fn answer(&self, call: Call) -> Result<Answer, String> {
        let this = self.clone();
        // A task of its own: what has begun comes to its end when the time is up, too.
        let work = tokio::spawn(async move { this.carry_out(&call).await });
        match timeout(ANSWER_LIMIT, work).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err("the overlay has failed; its log says where".into()),
            Err(_) => Err("the overlay took too long; ask again, or look at `overlay status`".into()),
        }
    }

    async fn carry_out(&self, call: &Call) -> Result<Answer, String> {
        let until = Instant::now() + MESH_LIMIT;
        let mut changes = self.0.mesh.changes();
        loop {
            changes.mark_unchanged();
            match self.try_once(call).await {
                Ok(answer) => return Ok(answer),
                Err(Refusal::Never(why)) => return Err(why),
                Err(Refusal::NotYet(why)) => match timeout_at(until, changes.changed()).await {
                    Ok(Ok(())) => {}
                    _ => return Err(why),
                },
            }
        }
    }

    /// On the disk first, then done, then answered; what cannot be done is taken back.
    async fn try_once(&self, call: &Call) -> Result<Answer, Refusal> {
        let busy = self.busy(call).await?;
        let mut book = self.0.book.lock().await;
        let held = self.0.mesh.held();
        let random = SysRng.try_next_u64().map_err(|e| Refusal::Never(e.to_string()))?;
        let (next, Done { answer, steps }) = book.enter(World { held: &held, busy: &busy, random }, call)?;
        self.keep(&book, &next).await?;
        for step in &steps {
            if let Err(error) = self.take(step, &next).await {
                let why = with_causes(&error);
                warn!("Docker's call is refused: {why}");
                self.take_back(&steps, &book).await;
                self.keep(&next, &book).await?;
                return Err(Refusal::Never(why));
            }
        }
        self.turn_to(&mut book, next);
        Ok(answer)
    }

    /// What a new subnet would be in the way of.
    async fn busy(&self, call: &Call) -> Result<BTreeSet<IpNet>, Refusal> {
        if !matches!(call, Call::RequestPool(_)) {
            return Ok(BTreeSet::new());
        }
        let offered = OFFERED.parse().expect("a subnet");
        self.0.links.overlapping(offered).await.map_err(|e| Refusal::Never(with_causes(&e)))
    }

    async fn keep(&self, old: &Book, new: &Book) -> Result<(), Refusal> {
        if old == new {
            return Ok(());
        }
        let (file, text) = (self.0.file.clone(), serde_json::to_vec(new).expect("plain data"));
        let written = tokio::task::spawn_blocking(move || write_whole(&file, &text)).await;
        let written = written.map_err(io::Error::other).flatten();
        written.map_err(|e| Refusal::Never(format!("cannot keep it in {}: {e}", self.0.file.display())))
    }

    async fn take(&self, step: &Step, book: &Book) -> Result<(), LinkError> {
        let links = &self.0.links;
        match step {
            Step::Bridge(bridge) => self.have_bridge(bridge).await,
            Step::NoBridge(name) | Step::NoPair(name) => links.remove(name).await.map(|_| ()),
            Step::Pair(Pair { name, peer, bridge, alias, mtu, mac }) => {
                let peer = Peer { name: peer.clone(), mtu: u32::from(*mtu), mac: Some(*mac) };
                links.veth(name, &peer, alias, Some(bridge)).await
            }
            Step::Nat => self.translate(book).await,
        }
    }

    /// Leaves nothing of steps that do not count.
    async fn take_back(&self, steps: &[Step], book: &Book) {
        for step in book.instead_of(steps) {
            if let Err(error) = self.take(&step, book).await {
                warn!("something is left behind: {}", with_causes(&error));
            }
        }
    }

    async fn have_bridge(&self, bridge: &Bridge) -> Result<(), LinkError> {
        let (links, name) = (&self.0.links, bridge.name.as_str());
        links.bridge(name, &bridge.alias, u32::from(bridge.mtu), bridge.mac).await?;
        if bridge.addresses.iter().any(|address| address.addr().is_ipv6()) {
            // Where IPv6 is off by default, it is on for this.
            links.set(&format!("net/ipv6/conf/{name}/disable_ipv6"), "0")?;
            links.forward_ipv6().await?;
        }
        links.set_addresses(name, &bridge.addresses).await?;
        links.set(&format!("net/ipv4/conf/{name}/forwarding"), "1")?;
        let there = links.routes(Owner::Containers).await?;
        let wanted: BTreeSet<Route> =
            bridge.routes.iter().map(|to| Route::new(*to, Way::Link(name.to_owned()))).collect();
        for route in wanted.difference(&there) {
            links.add_route(Owner::Containers, route).await?;
        }
        let old = there.difference(&wanted).filter(|route| route.way == Way::Link(name.to_owned()));
        for route in old {
            links.remove_route(Owner::Containers, route).await?;
        }
        Ok(())
    }

    /// Has the kernel translate addresses as the book and the mesh want it.
    async fn translate(&self, book: &Book) -> Result<(), LinkError> {
        let held = self.0.mesh.held();
        let (mut leaving, mut exposed) = (book.leaving(), BTreeSet::new());
        for network in held.networks.iter().map(|held| &held.network) {
            let nets = [IpNet::V4(network.subnet), IpNet::V6(network.subnet6)];
            leaving.extend(nets);
            let ours = book.exposed(network.id).map(|ours| ours.addr());
            exposed.extend(ours.filter_map(|ip| nets.into_iter().find(|net| net.contains(&ip)).map(|net| (net, ip))));
        }
        for internal in book.internal() {
            leaving.remove(&internal);
        }
        let ports = book.published().map(|(port, to)| (port.clone(), to)).collect();
        let wanted = Nat { tunnel: held.tunnel.clone(), ports, leaving, exposed };
        let mut there = self.0.nat.lock().await;
        if there.as_ref() != Some(&wanted) {
            // Nothing is there as far as we know until it is taken.
            *there = None;
            nat::apply(self.0.links.namespace(), &wanted.ruleset()).await?;
            *there = Some(wanted);
        }
        Ok(())
    }

    /// Keeps bridges and ports as they should be while the mesh changes, until `shutdown`.
    pub async fn follow(&self, shutdown: CancellationToken) {
        let (mut told, mut keeper) = (Told::default(), self.clone());
        // Docker's own calls are answered by themselves.
        let events = stream::pending::<Result<(), Infallible>>();
        let work = news::watch(self.0.mesh.changes(), events, &mut told, &mut keeper);
        shutdown.run_until_cancelled(work).await;
    }

    async fn refresh(&self) -> Found {
        let book = self.0.book.lock().await;
        let held = self.0.mesh.held();
        let world = World { held: &held, busy: &BTreeSet::new(), random: 0 };
        let mut found = Found::default();
        for bridge in book.bridges(world) {
            if let Err(error) = self.have_bridge(&bridge).await {
                found.failed([format!("{}: {}", bridge.alias, with_causes(&error))]);
            }
        }
        if let Err(error) = self.translate(&book).await {
            let why = with_causes(&error);
            found.failed([format!("containers may not reach the world, nor be reached at ports: {why}")]);
        }
        self.tell_usage(&book);
        found
    }

    /// The book is `next` from now on.
    fn turn_to(&self, book: &mut Book, next: Book) {
        *book = next;
        self.0.mesh.tell_pools(book.given());
        self.tell_usage(book);
    }

    fn tell_usage(&self, book: &Book) {
        let held = self.0.mesh.held();
        let world = World { held: &held, busy: &BTreeSet::new(), random: 0 };
        for (network, usage) in book.usage(world) {
            self.0.mesh.tell_usage(network, usage);
        }
    }

    /// The networks that Docker made with this driver.
    pub async fn made(&self) -> Vec<Made> {
        self.0.book.lock().await.made()
    }

    /// Their bridges.
    pub async fn bridged(&self) -> Vec<Bridged> {
        self.0.book.lock().await.bridged()
    }

    /// Notes that the mesh has a network from here: when Docker removes it the mesh is to have it no more.
    pub async fn announced(&self, id: &Id, name: &NetworkName) {
        let note = |book: &mut Book| _ = book.announced.insert(id.clone(), name.clone());
        self.note(note).await;
    }

    /// Networks that the mesh has from here, and Docker has removed.
    pub async fn withdrawn(&self) -> BTreeSet<NetworkName> {
        self.0.book.lock().await.withdrawn.clone()
    }

    /// The mesh has it no more.
    pub async fn is_withdrawn(&self, name: &NetworkName) {
        self.note(|book| _ = book.withdrawn.remove(name)).await;
    }

    async fn note(&self, change: impl FnOnce(&mut Book)) {
        let mut book = self.0.book.lock().await;
        let mut next = book.clone();
        change(&mut next);
        if let Err(why) = self.keep(&book, &next).await {
            warn!("{why}");
        }
        self.turn_to(&mut book, next);
    }

    /// Forgets what Docker does not have any more: these networks, and pools that it has not asked for again in its life.
    pub async fn forget(&self, gone: &BTreeSet<Id>) {
        let mut book = self.0.book.lock().await;
        let mut next = book.clone();
        let steps = next.forget(gone);
        next.forget_unasked();
        if let Err(why) = self.keep(&book, &next).await {
            warn!("what Docker has removed is not forgotten: {why}");
            return;
        }
        for step in steps {
            if let Err(error) = self.take(&step, &next).await {
                warn!("a network that is gone leaves something behind: {}", with_causes(&error));
            }
        }
        if *book != next {
            info!("what Docker has removed while the overlay was away is forgotten");
        }
        self.turn_to(&mut book, next);
    }
}

impl Look for Plugin {
    type Error = Infallible;

    async fn look(&mut self, _: Why) -> Result<Found, Infallible> {
        Ok(self.refresh().await)
    }
}

/// The book that `file` holds; an empty one, if there is none yet.
fn read(file: &Path) -> Result<Book, PluginError> {
    /// All that every format has.
    #[derive(Deserialize)]
    struct Format {
        #[serde(default)]
        format: u32,
    }
    let failed = |source| PluginError::File { path: file.to_owned(), source };
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Book::default()),
        Err(e) => return Err(failed(e)),
    };
    let Format { format } = serde_json::from_slice(&text).map_err(|e| failed(e.into()))?;
    if format > Book::FORMAT {
        return Err(PluginError::Newer { path: file.to_owned(), format });
    }
    serde_json::from_slice(&text).map_err(|e| failed(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_or_of_a_later_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plugin.json");
        assert_eq!(read(&file).unwrap(), Book::default());
        let whole = serde_json::to_string(&Book::default()).unwrap();
        for bytes in 0..whole.len() {
            std::fs::write(&file, &whole[..bytes]).unwrap();
            assert!(matches!(read(&file), Err(PluginError::File { .. })), "{bytes} bytes");
        }
        let earlier = whole.replace("\"format\":0,", "");
        for (text, is_read) in [(&whole, true), (&earlier, true), (&whole.replace(":0,", ":1,"), false)] {
            std::fs::write(&file, text).unwrap();
            let found = read(&file);
            assert_eq!(found.is_ok(), is_read, "{text}");
            assert!(is_read || found.unwrap_err().to_string().contains("of a later version (format 1"));
            assert_eq!(&std::fs::read_to_string(&file).unwrap(), text);
        }
    }
}
