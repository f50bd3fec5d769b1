//! What an error of the HTTP library comes from.

use std::error::Error as StdError;
use std::io;

use super::dial::DialError;
use super::tls;
use crate::engine::remote::{Broken, Fault, Malformed, Tls};

/// Finds out what an error of the HTTP library comes from. Its own text is not used: it may quote what it choked on.
pub(super) fn diagnose(error: &(dyn StdError + 'static), otherwise: Broken) -> Fault {
    cause(error).unwrap_or(Fault::Unreachable(otherwise))
}

fn cause(error: &(dyn StdError + 'static)) -> Option<Fault> {
    let mut cause = Some(error);
    let mut broken = None;
    while let Some(current) = cause {
        if let Some(DialError(fault)) = current.downcast_ref::<DialError>() {
            return Some(fault.clone());
        }
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return Some(Fault::Tls(tls_fault(tls)));
        }
        if current.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large) {
            return Some(Fault::Malformed(Malformed::LongHead));
        }
        let io = current.downcast_ref::<io::Error>();
        broken = broken.or_else(|| io_fault(io?.kind()));
        // An I/O error's source is that of the error in it, so the one in it has to be asked for: TLS errors come in two
        // of them, one inside the other.
        let inner = io.and_then(io::Error::get_ref);
        cause = inner.map_or_else(|| current.source(), |inner| Some(inner));
    }
    broken
}

fn io_fault(kind: io::ErrorKind) -> Option<Fault> {
    Some(Fault::Unreachable(match kind {
        io::ErrorKind::ConnectionRefused => Broken::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            Broken::Reset
        }
        io::ErrorKind::UnexpectedEof => Broken::Closed,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Broken::NoRoute,
        io::ErrorKind::TimedOut => return Some(Fault::TimedOut),
        _ => return None,
    }))
}

fn tls_fault(error: &rustls::Error) -> Tls {
    use rustls::CertificateError as Bad;
    let rustls::Error::InvalidCertificate(bad) = error else { return Tls::Handshake };
    match bad {
        Bad::Expired | Bad::ExpiredContext { .. } => Tls::Expired,
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => Tls::NotYetValid,
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Tls::OtherName,
        // A CA of the same name that has other keys is another CA.
        Bad::UnknownIssuer | Bad::BadSignature => Tls::UnknownCa,
        Bad::Revoked => Tls::Revoked,
        _ if tls::is_self_signed(error) => Tls::SelfSigned,
        _ => Tls::Unverifiable,
    }
}
