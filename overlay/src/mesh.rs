//! What the daemon and those who work beside it in the process share: what this host holds, how full it is, and how to
//! ask for a change. The daemon alone changes anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    clients::NewClient,
    names::{self, Name, Names},
    network::{Hosts, Network, NetworkId, NetworkName},
    state::{Held, Named, Usage},
};

/// Requests that wait for the daemon; more have to wait before they are sent.
const QUEUE: usize = 64;

/// A handle to the daemon; cheap to clone.
#[derive(Clone, Debug)]
pub struct Mesh {
    held: watch::Receiver<Arc<Held>>,
    usage: Arc<Mutex<BTreeMap<NetworkId, Usage>>>,
    pools: watch::Sender<BTreeSet<IpNet>>,
    names: watch::Sender<Names>,
    requests: mpsc::Sender<Asked>,
}

/// The daemon's ends of it.
#[derive(Debug)]
pub struct Ends {
    /// Where it tells what is held.
    pub held: watch::Sender<Arc<Held>>,
    /// How full the blocks are, as it was told.
    pub usage: Arc<Mutex<BTreeMap<NetworkId, Usage>>>,
    /// The subnets that this host's Docker has from us.
    pub pools: watch::Sender<BTreeSet<IpNet>>,
    /// Where it tells what clients are called.
    pub names: watch::Sender<Names>,
    /// What it is asked for.
    pub requests: mpsc::Receiver<Asked>,
}

/// A request, and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// What is to be done.
    pub request: Request,
    /// Nobody may wait for it any more.
    pub reply: oneshot::Sender<Result<serde_json::Value, Refusal>>,
}

/// What can be asked for.
#[derive(Debug)]
pub enum Request {
    /// A new network.
    CreateNetwork(NewNetwork),
    /// That there be no such network any more.
    RemoveNetwork(NetworkName),
    /// How everything stands.
    Status,
    /// A new client of this host.
    AddClient(NewClient),
    /// That there be no client of this name any more.
    RemoveClient(String),
    /// The clients of this host.
    Clients,
    /// To use these registries, too, which a member named.
    Learn(Vec<String>),
    /// That this host be put out for good: its name, or the beginning of its id.
    Evict(String),
    /// A new secret for all members.
    Rotate,
    /// The secret to join with.
    Secret,
    /// To take this host out of the mesh.
    Leave,
    /// To carry nothing between hosts until it is started.
    Stop,
    /// To carry it again.
    Start,
    /// That others reach a subnet through this host.
    ExposeLan(NewLan),
    /// That they do not any more.
    HideLan(Ipv4Net),
    /// To leave, and to remove from this host all that is ours.
    Reset,
}

impl Request {
    /// Whether it changes nothing.
    pub fn only_asks(&self) -> bool {
        matches!(self, Self::Status | Self::Clients | Self::Secret)
    }
}

/// A network to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewNetwork {
    /// What it is to be called.
    pub name: NetworkName,
    /// Its addresses; some that nobody here uses, if it does not matter.
    #[serde(default)]
    pub subnet: Option<Ipv4Net>,
    /// Its addresses of IPv6, a /48 of RFC 4193; some that follow from its id, if it does not matter.
    #[serde(default)]
    pub subnet6: Option<Ipv6Net>,
    /// The length of the prefix of its blocks.
    #[serde(default)]
    pub block_bits: Option<u8>,
    /// For this host alone.
    #[serde(default)]
    pub local: bool,
    /// Whose containers may be in it.
    #[serde(default)]
    pub hosts: Hosts,
}

/// A subnet behind this host that is to be reached by others; what in it has a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLan {
    /// All of it.
    pub subnet: Ipv4Net,
    /// What the DNS is to call something in it.
    #[serde(default)]
    pub name: Option<String>,
    /// Where that is.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// And at which port.
    #[serde(default)]
    pub port: u16,
}

impl NewLan {
    /// What has a name.
    ///
    /// # Errors
    /// [`Refusal::Wrong`]
    pub fn named(&self) -> Result<Option<Named>, Refusal> {
        let wrong = |why: String| Err(Refusal::Wrong(why));
        match (&self.name, self.address) {
            (Some(name), Some(address)) if self.subnet.contains(&address) => {
                Ok(Some(Named { name: name.clone(), address, port: self.port }))
            }
            (Some(_), Some(address)) => wrong(format!("{address} is not in {}", self.subnet)),
            (None, None) if self.port == 0 => Ok(None),
            _ => wrong("what has a name has an address: give both --name and --address, and perhaps --port".into()),
        }
    }
}

/// Why a request was not carried out; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be meant.
    #[error("{0}")]
    Wrong(String),
    /// There is no such thing.
    #[error("{0}")]
    Unknown(String),
    /// It stands against something that is there.
    #[error("{0}")]
    Conflict(String),
    /// Not now: something that it needs is away.
    #[error("{0}")]
    Away(String),
}

impl Mesh {
    /// A handle, and the daemon's ends of it.
    pub fn new(first: Held) -> (Self, Ends) {
        let (tell, held) = watch::channel(Arc::new(first));
        let (send, requests) = mpsc::channel(QUEUE);
        let (usage, pools, names) = (Arc::default(), watch::Sender::default(), watch::Sender::default());
        let ends = Ends { held: tell, usage: Arc::clone(&usage), pools: pools.clone(), names: names.clone(), requests };
        (Self { held, usage, pools, names, requests: send }, ends)
    }

    /// What this host holds just now.
    pub fn held(&self) -> Arc<Held> {
        self.held.borrow().clone()
    }

    /// To be woken when that changes.
    pub fn changes(&self) -> watch::Receiver<Arc<Held>> {
        self.held.clone()
    }

    /// Tells how full the blocks of a network are; the daemon claims another in time.
    pub fn tell_usage(&self, network: NetworkId, usage: Usage) {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).insert(network, usage);
    }

    /// Tells which subnets Docker has from us: a new network may not be in their way, though the mesh may not have them yet.
    pub fn tell_pools(&self, pools: BTreeSet<IpNet>) {
        self.pools.send_replace(pools);
    }

    /// Tells which attached containers run, and what they are called.
    pub fn tell_attached(&self, names: BTreeSet<Name>) {
        names::tell(&self.names, |all| &mut all.attached, names);
    }

    /// What has a name by this host, as it changes.
    pub fn names(&self) -> watch::Receiver<Names> {
        self.names.subscribe()
    }

    /// Has the daemon do something.
    ///
    /// # Errors
    /// [`Refusal`]
    pub async fn ask(&self, request: Request) -> Result<serde_json::Value, Refusal> {
        let ending = |()| Refusal::Away("the overlay is about to end".into());
        let (reply, answer) = oneshot::channel();
        self.requests.send(Asked { request, reply }).await.map_err(|_| ending(()))?;
        answer.await.map_err(|_| ending(())).and_then(|answer| answer)
    }

    /// Makes a network.
    ///
    /// # Errors
    /// [`Refusal`]
    pub async fn create_network(&self, new: NewNetwork) -> Result<Network, Refusal> {
        let made = self.ask(Request::CreateNetwork(new)).await?;
        Ok(serde_json::from_value(made).expect("the daemon answers with a network"))
    }
}
