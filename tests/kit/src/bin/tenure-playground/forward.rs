//! Passes connections from other Pods on to a simulator, which accepts them from loopback only. TLS is between the two ends.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Passes on what is accepted, until it is dropped.
pub(crate) async fn accept(listener: TcpListener, to: SocketAddr) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(pass(stream, to));
        } else {
            // Out of descriptors, most likely: trying again at once would only spin.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn pass(mut stream: TcpStream, to: SocketAddr) {
    if let Ok(mut simulator) = TcpStream::connect(to).await {
        // It fails when one of the two closes the connection.
        let _ = copy_bidirectional(&mut stream, &mut simulator).await;
    }
}
