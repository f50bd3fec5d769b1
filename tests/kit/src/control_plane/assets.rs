//! The two servers of `KUBEBUILDER_ASSETS`, as child processes.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{self, Command},
};

use anyhow::{Context, Result, anyhow};
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

/// Neither server ends with its standard input; this shell does it for them. It ends when the API server does. A line on
/// its standard input ends them too, but then the folder is kept for a restart.
const SCRIPT: &str = r#"
binaries=$1 port=$2 ephemeral=$3; shift 3
exec 3<&0
rm -f keep
"$binaries/etcd" --data-dir=etcd --listen-client-urls=unix://etcd.sock --advertise-client-urls=http://localhost:2379 \
    --listen-peer-urls=unix://peer.sock --unsafe-no-fsync --log-level=error & etcd=$!
"$binaries/kube-apiserver" --etcd-servers=unix://etcd.sock --bind-address=127.0.0.1 --advertise-address=127.0.0.1 \
    --secure-port="$port" --tls-cert-file=pki/server.crt --tls-private-key-file=pki/server.key \
    --client-ca-file=pki/ca.crt --authorization-mode=RBAC --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file=pki/tokens.pub --service-account-signing-key-file=pki/tokens.key \
    --service-cluster-ip-range=10.0.0.0/24 --endpoint-reconciler-type=none --profiling=false "$@" & server=$!
{ if read -r line <&3; then : > keep; fi; kill -9 "$server"; } & watcher=$!
wait "$server"
kill -9 "$etcd" "$watcher"
wait "$etcd"
if [ "$ephemeral" = true ] && [ ! -e keep ]; then rm -rf "$PWD"; fi
"#;
const AUDIT_POLICY: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],"rules":[{"level":"Metadata"}]}"#;
const PORT: &str = "port";

/// The command that starts both in `folder`, which gets keys, a kubeconfig and a port on first use.
pub(super) fn command(
    binaries: &Path,
    folder: &Path,
    ephemeral: bool,
    audit_log: Option<&Path>,
) -> Result<Command> {
    let port = match fs::read_to_string(folder.join(PORT)) {
        Ok(port) => port,
        Err(error) if error.kind() == ErrorKind::NotFound => initialise(folder)?,
        Err(error) => return Err(error).context("reading the port"),
    };
    let binaries = std::path::absolute(binaries).context("KUBEBUILDER_ASSETS")?;
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "control-plane"]).arg(binaries).args([port, ephemeral.to_string()]);
    command.current_dir(folder);
    if let Some(file) = audit_log {
        fs::write(folder.join("audit-policy.json"), AUDIT_POLICY).context("writing the audit policy")?;
        command.arg("--audit-policy-file=audit-policy.json");
        command.arg(format!("--audit-log-path={}", file.display()));
    }
    Ok(command)
}

fn initialise(folder: &Path) -> Result<String> {
    let port = free_port()?;
    let pki = folder.join("pki");
    fs::create_dir_all(&pki).context("making the folder of the keys")?;
    let authority = authority()?;
    fs::write(pki.join("ca.crt"), authority.pem())?;
    let (certificate, key) = issue(&authority, &server())?;
    fs::write(pki.join("server.crt"), certificate)?;
    fs::write(pki.join("server.key"), key)?;
    let tokens = KeyPair::generate()?;
    fs::write(pki.join("tokens.key"), tokens.serialize_pem())?;
    fs::write(pki.join("tokens.pub"), tokens.public_key_pem())?;
    let administrator = issue(&authority, &administrator())?;
    fs::write(folder.join("kubeconfig"), kubeconfig(port, &authority.pem(), &administrator))?;
    // Written last: a folder with a port is complete.
    fs::write(folder.join(PORT), port.to_string())?;
    Ok(port.to_string())
}

/// A port below those that the kernel gives to outgoing connections (32768 and above): one of them could sit on ours
/// between a kill and the restart.
fn free_port() -> Result<u16> {
    let ports = 20_000..32_000_u16;
    let start = usize::try_from(process::id())? % ports.len();
    ports
        .clone()
        .cycle()
        .skip(start)
        .take(ports.len())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| anyhow!("no port is free"))
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "control-plane");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?).context("making a CA")
}

fn server() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    params.subject_alt_names = vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn administrator() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "admin");
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn issue(authority: &CertifiedIssuer<'_, KeyPair>, params: &CertificateParams) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn kubeconfig(port: u16, ca: &str, (certificate, key): &(String, String)) -> String {
    let cluster = json!({
        "server": format!("https://127.0.0.1:{port}"),
        "certificate-authority-data": STANDARD.encode(ca),
    });
    let user = json!({
        "client-certificate-data": STANDARD.encode(certificate),
        "client-key-data": STANDARD.encode(key),
    });
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "control-plane", "cluster": cluster }],
        "users": [{ "name": "admin", "user": user }],
        "contexts": [{ "name": "control-plane", "context": { "cluster": "control-plane", "user": "admin" } }],
        "current-context": "control-plane",
    })
    .to_string()
}
