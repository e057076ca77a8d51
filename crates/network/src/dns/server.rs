//! One thread that serves the sockets of all containers.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use simple_dns::RCODE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::answer::{Answer, answer, failure};
use super::door::Door;
use super::forward::forward;
use super::names::{Book, View};
use crate::{Endpoint, Error};

/// Questions of one container that may wait for other servers at a time.
const WAITING: usize = 256;
/// Connections one container may have at a time.
const CONNECTIONS: usize = 64;
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(10);
/// Queries are short: longer datagrams are no queries.
const QUERY: usize = 4096;

/// All name servers of one daemon. The thread starts with the first.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    shared: Arc<Shared>,
    rooms: Mutex<HashMap<String, Arc<Room>>>,
    orders: Mutex<Option<mpsc::UnboundedSender<Order>>>,
}

#[derive(Debug, Default)]
struct Shared {
    book: RwLock<Book>,
    /// Counts answers, so that several addresses take turns.
    turn: AtomicUsize,
}

/// One container's name server.
#[derive(Debug)]
struct Room {
    netns: Arc<OwnedFd>,
    view: RwLock<Arc<View>>,
    waiting: Semaphore,
    connections: Arc<Semaphore>,
}

#[derive(Debug)]
enum Order {
    Serve(String, Door, Arc<Room>),
    Stop(String),
}

impl Resolver {
    /// Enters the names of an endpoint.
    pub(crate) fn add(&self, endpoint: &Endpoint) {
        self.shared.book.write().unwrap_or_else(PoisonError::into_inner).add(endpoint);
    }

    /// Removes the names of an endpoint.
    pub(crate) fn remove(&self, endpoint: &Endpoint) {
        self.shared.book.write().unwrap_or_else(PoisonError::into_inner).remove(endpoint);
    }

    /// Serves a container from now on.
    pub(crate) fn serve(&self, container: &str, door: Door, netns: OwnedFd, view: View) -> Result<(), Error> {
        let room = Arc::new(Room {
            netns: Arc::new(netns),
            view: RwLock::new(Arc::new(view)),
            waiting: Semaphore::new(WAITING),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
        });
        self.rooms().insert(container.to_owned(), Arc::clone(&room));
        self.order(Order::Serve(container.to_owned(), door, room))
    }

    /// Gives a container that is served another view.
    pub(crate) fn update(&self, container: &str, view: View) {
        if let Some(room) = self.rooms().get(container) {
            *room.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        }
    }

    /// Closes a container's sockets, which would keep its namespace alive.
    pub(crate) fn stop(&self, container: &str) {
        if self.rooms().remove(container).is_some() {
            let _ = self.order(Order::Stop(container.to_owned()));
        }
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<String, Arc<Room>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: Order) -> Result<(), Error> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error| Error::kernel("start the thread of name servers", error);
        if orders.as_ref().is_none_or(mpsc::UnboundedSender::is_closed) {
            *orders = Some(start(Arc::clone(&self.shared)).map_err(failed)?);
        }
        let sent = orders.as_ref().map(|orders| orders.send(order));
        sent.and_then(Result::ok).ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))
    }
}

/// Starts the thread; it ends when the sender is dropped.
fn start(shared: Arc<Shared>) -> io::Result<mpsc::UnboundedSender<Order>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(16).build()?;
    let (sender, mut orders) = mpsc::unbounded_channel();
    std::thread::Builder::new().name("names".into()).spawn(move || {
        runtime.block_on(async {
            let mut served: HashMap<String, JoinSet<()>> = HashMap::new();
            while let Some(order) = orders.recv().await {
                match order {
                    Order::Stop(container) => drop(served.remove(&container)),
                    Order::Serve(container, door, room) => {
                        let tasks = served.entry(container).or_default();
                        tasks.spawn(datagrams(door.udp, Arc::clone(&room), Arc::clone(&shared)));
                        tasks.spawn(streams(door.tcp, room, Arc::clone(&shared)));
                    }
                }
            }
        });
        runtime.shutdown_background();
    })?;
    Ok(sender)
}

/// Answers datagrams until it is aborted.
async fn datagrams(socket: std::net::UdpSocket, room: Arc<Room>, shared: Arc<Shared>) {
    let Ok(socket) = UdpSocket::from_std(socket) else { return };
    let socket = Arc::new(socket);
    let mut later = JoinSet::new();
    let mut buffer = vec![0; QUERY];
    loop {
        let (length, client) = tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // Somebody closed a socket before its answer came.
                Err(_) => continue,
            },
            Some(_) = later.join_next() => continue,
        };
        let query = &buffer[..length];
        match room.look(query, &shared, false) {
            None => {}
            Some(Answer::Reply(reply)) => drop(socket.send_to(&reply, client).await),
            Some(Answer::Forward) if later.len() >= WAITING => {
                if let Some(reply) = failure(query, RCODE::Refused) {
                    let _ = socket.send_to(&reply, client).await;
                }
            }
            Some(Answer::Forward) => {
                let (query, socket, room) = (query.to_vec(), Arc::clone(&socket), Arc::clone(&room));
                later.spawn(async move {
                    if let Some(reply) = room.forward(&query, false).await {
                        let _ = socket.send_to(&reply, client).await;
                    }
                });
            }
        }
    }
}

/// Takes connections until it is aborted.
async fn streams(listener: std::net::TcpListener, room: Arc<Room>, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let mut clients = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room.connections).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = clients.join_next() => continue,
        };
        match accepted {
            Ok((client, _)) => {
                let (room, shared) = (Arc::clone(&room), Arc::clone(&shared));
                clients.spawn(async move {
                    let _ = converse(client, &room, &shared).await;
                    drop(permit);
                });
            }
            // No descriptors left: wait for better times.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Answers one connection's questions, one after the other.
async fn converse(mut client: TcpStream, room: &Room, shared: &Shared) -> io::Result<()> {
    loop {
        let read = async {
            let mut query = vec![0; usize::from(client.read_u16().await?)];
            client.read_exact(&mut query).await?;
            io::Result::Ok(query)
        };
        let query = tokio::time::timeout(IDLE, read).await??;
        let reply = match room.look(&query, shared, true) {
            None => return Ok(()),
            Some(Answer::Reply(reply)) => Some(reply),
            Some(Answer::Forward) => room.forward(&query, true).await,
        };
        let Some(reply) = reply else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        let write = async {
            client.write_all(&length.to_be_bytes()).await?;
            client.write_all(&reply).await
        };
        tokio::time::timeout(IDLE, write).await??;
    }
}

impl Room {
    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn look(&self, query: &[u8], shared: &Shared, stream: bool) -> Option<Answer> {
        let turn = shared.turn.fetch_add(1, Ordering::Relaxed);
        let book = shared.book.read().unwrap_or_else(PoisonError::into_inner);
        answer(query, &book, &self.view(), stream, turn)
    }

    async fn forward(&self, query: &[u8], stream: bool) -> Option<Vec<u8>> {
        let Ok(_permit) = self.waiting.try_acquire() else { return failure(query, RCODE::Refused) };
        forward(query, &self.view(), &self.netns, stream).await
    }
}
