//! What statuses remember from before a restart.

use super::context::Context;
use crate::crd::{CredentialsRef, RefusedLogin};
use crate::vendor::admission::Admission;
use crate::vendor::credentials::{Identity, SecretVersion};

/// Takes over the refused logins that statuses remember, before anything is tried. The keys within the Secret are those of
/// the present spec.
pub fn refused_logins(context: &Context) {
    let admission = &context.remotes.admission;
    for object in context.gateways.keys().iter().filter_map(|key| context.gateways.valid(key)) {
        if let Some(status) = &object.status {
            let reference = &object.spec.connection.credentials_secret_ref;
            remember(admission, reference, status.effective_url.as_deref(), &status.refused_login);
        }
    }
    for object in context.servers.keys().iter().filter_map(|key| context.servers.valid(key)) {
        if let Some(status) = &object.status {
            let reference = &object.spec.connection.credentials_secret_ref;
            remember(admission, reference, status.effective_url.as_deref(), &status.refused_login);
        }
    }
    for object in context.customers.keys().iter().filter_map(|key| context.customers.valid(key)) {
        if let Some(status) = &object.status
            && let Some(reference) = &object.spec.verify_credentials_secret_ref
        {
            remember(admission, reference, status.effective_url.as_deref(), &status.refused_login);
        }
    }
}

fn remember(admission: &Admission, reference: &CredentialsRef, url: Option<&str>, refused: &[RefusedLogin]) {
    let Some(url) = url else { return };
    let CredentialsRef { username_key, password_key, .. } = reference;
    // The newest comes last, since it is the version that may still be in use.
    for RefusedLogin { secret_uid, secret_resource_version, time, .. } in refused.iter().rev() {
        let version =
            SecretVersion { uid: secret_uid.clone(), resource_version: secret_resource_version.clone() };
        let identity = Identity { version, keys: (username_key.clone(), password_key.clone()) };
        admission.remember(&identity, url, time.0);
    }
}
