//! What an error of the HTTP library comes from, in words of our own.

use std::error::Error as StdError;
use std::io;

use super::dial::DialError;
use super::fault::Fault;

/// Finds out what an error of the HTTP library comes from. Its own text is not used: it may quote what it choked on.
pub(super) fn diagnose(error: &reqwest::Error) -> Fault {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    let mut broken = None;
    while let Some(current) = cause {
        if let Some(DialError(fault)) = current.downcast_ref::<DialError>() {
            return fault.clone();
        }
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return Fault::Tls(tls_remedy(tls));
        }
        let io = current.downcast_ref::<io::Error>();
        broken = broken.or_else(|| io_fault(io?.kind()));
        // An I/O error's source is that of the error in it, so the one in it has to be asked for: TLS errors come in two
        // of them, one inside the other.
        let inner = io.and_then(io::Error::get_ref);
        cause = inner.map_or_else(|| current.source(), |inner| Some(inner));
    }
    if let Some(fault) = broken {
        return fault;
    }
    if error.is_timeout() {
        Fault::TimedOut
    } else if error.is_connect() {
        Fault::Unreachable("no connection could be made: check the URL, the proxy and the network")
    } else {
        Fault::Unreachable("the connection was lost before the answer was complete")
    }
}

fn io_fault(kind: io::ErrorKind) -> Option<Fault> {
    Some(match kind {
        io::ErrorKind::ConnectionRefused => Fault::Unreachable(
            "the connection was refused: check the URL's port, and whether the service is running",
        ),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            Fault::Unreachable("the connection was reset before the answer was complete")
        }
        io::ErrorKind::UnexpectedEof => {
            Fault::Unreachable("the connection was closed before the answer was complete")
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Fault::Unreachable("there is no route to the address: check the URL and the network")
        }
        io::ErrorKind::TimedOut => Fault::TimedOut,
        _ => return None,
    })
}

fn tls_remedy(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => "the server's certificate has expired: renew it",
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet: check the clocks"
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "the server's certificate is for another name: correct the URL, or set tls.serverName"
            }
            // A CA of the same name that has other keys is another CA.
            Bad::UnknownIssuer | Bad::BadSignature => {
                "the server's certificate is signed by an unknown CA: set tls.caSecretRef or tls.caConfigMapRef"
            }
            Bad::Revoked => "the server's certificate is revoked",
            _ => {
                "the server's certificate cannot be verified: set tls.caSecretRef or tls.caConfigMapRef, or renew it"
            }
        },
        _ => "the TLS handshake failed: check that the port speaks TLS 1.2 or newer",
    }
}
