//! What a Service is to its pods: one port, behind which replicas come and go.

use std::{
    io,
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use parking_lot::Mutex;

/// Hands each connection to one of the replicas, in turn. Connections that there are stay where they are.
pub struct Balancer {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    replicas: Arc<Mutex<Vec<u16>>>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Balancer {
    /// With no replica yet: connections are closed.
    pub fn start() -> Self {
        Self::on(0)
    }

    /// The same on a port that is known before.
    pub fn on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let replicas = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::clone(&replicas);
        let connections = Arc::new(Mutex::new(Vec::new()));
        let open = Arc::clone(&connections);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let next = {
                    let mut known = known.lock();
                    // The one asked now is the last to be asked again.
                    if !known.is_empty() {
                        known.rotate_left(1);
                    }
                    known.last().copied()
                };
                {
                    let mut open = open.lock();
                    open.retain(|connection: &TcpStream| connection.peer_addr().is_ok());
                    open.extend(client.try_clone());
                }
                if let Some(replica) = next {
                    thread::spawn(move || connect(&client, replica));
                }
            }
        });
        Self { port, replicas, connections }
    }

    /// Ends all connections: the next request is handed to the next replica.
    pub fn disconnect(&self) {
        for connection in self.connections.lock().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// A replica that is ready.
    pub fn add(&self, port: u16) {
        self.replicas.lock().push(port);
    }

    /// One that is on its way out.
    pub fn remove(&self, port: u16) {
        self.replicas.lock().retain(|known| *known != port);
    }
}

fn connect(client: &TcpStream, replica: u16) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", replica)) else { return };
    // What is to go on goes on at once.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let copy = |mut from: &TcpStream, mut to: &TcpStream| {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    thread::scope(|both| {
        both.spawn(|| copy(client, &server));
        copy(&server, client);
    });
}
