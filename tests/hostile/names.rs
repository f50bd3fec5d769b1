//! An operator that asks a name server that never answers.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::net::UdpSocket;

/// Where the operator's queries arrive.
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 53, 53, 53), 53);

/// A program that starts the operator with its own `/etc/resolv.conf`, and `/etc/hosts` with a host. The process is the operator's.
pub fn program(folder: &Path, operator: &Path, host: &str) -> PathBuf {
    let operator = fs::canonicalize(operator).unwrap();
    let mount = "mount --bind resolv.conf /etc/resolv.conf && mount --bind hosts /etc/hosts";
    let script = format!(
        "#!/bin/sh\ncd '{}' && exec unshare --map-root-user --mount sh -c '{mount} && exec \"$@\"' sh '{}' \"$@\"\n",
        folder.display(),
        operator.display()
    );
    fs::write(folder.join("resolv.conf"), format!("nameserver {}\n", SERVER.0)).unwrap();
    // Without one of each family, the name server is asked for the other one.
    fs::write(folder.join("hosts"), format!("127.0.0.1 {host}\n::1 {host}\n")).unwrap();
    let program = folder.join("operator");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// A name server that takes queries and never answers.
pub async fn silent_server() -> UdpSocket {
    UdpSocket::bind(SERVER).await.expect("the right to listen at port 53 of a loopback address")
}
