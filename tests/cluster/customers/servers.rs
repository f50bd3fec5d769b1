//! How hard a server is asked, all its customers together.

use super::*;

/// As many customers at once on servers of these names; returns when all are in sync.
async fn crowd(f: &mut Fixture, kona: &KonaServer, servers: &[&str], count: usize) {
    for n in 1..=count {
        kona.add_customer(&id(n), &format!("Customer {n}"));
        let server = json!({"spec": {"serverRef": {"name": servers[n % servers.len()]}}});
        f.apply(&with(customer(&format!("c{n}"), &id(n), 3600, 86400), server)).await;
    }
    if f.operator.is_none() {
        f.start().await;
    }
    for n in 1..=count {
        f.reason(CTT, &format!("c{n}"), "InSync").await;
    }
}

fn limits(per_second: u32, concurrent: u32) -> Value {
    json!({"spec": {"limits": {"requestsPerSecond": per_second, "maxConcurrent": concurrent}}})
}

fn slow() -> KonaOptions {
    KonaOptions { latency: Duration::from_millis(50), ..KonaOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_at_once_than_allowed() {
    let (mut f, kona) = world_of("at-once", slow()).await;
    f.patch("KonaServer", "kona", limits(1000, 3)).await;
    crowd(&mut f, &kona, &["kona"], 15).await;
    assert_eq!(kona.requests().peak_in_flight(), 3);
    let (logins, refreshes, reads, writes) = exchanges(kona.counts());
    // At first contact one write finds out the path; the others read again after it.
    assert_eq!((logins, refreshes, writes), (1, 0, 15));
    assert!((30..30 + 15).contains(&reads), "{reads}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_a_second_than_allowed() {
    let (mut f, kona) = world("rate").await;
    f.patch("KonaServer", "kona", limits(10, 256)).await;
    crowd(&mut f, &kona, &["kona"], 12).await;
    let entries = kona.requests().entries();
    // While the first write finds out the path, others wait: their customers are read again before they are written.
    assert!((37..37 + 12).contains(&entries.len()), "{}", entries.len());
    // Requests are sent evenly; they may be held up a little on their way.
    for pair in entries.windows(11) {
        assert!(pair[10].at - pair[0].at > Duration::from_millis(800), "{:?}", pair[10].at - pair[0].at);
    }
    assert!(entries[36].at - entries[0].at > Duration::from_millis(3500));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_with_one_url_the_smallest_limits_count() {
    let (mut f, kona) = world_of("one-url", slow()).await;
    f.patch("KonaServer", "kona", limits(1000, 2)).await;
    // The same URL in other words.
    f.apply(&with(kona_server("again", &format!("{}/", kona.url())), limits(1000, 200))).await;
    f.start().await;
    f.reason("KonaServer", "kona", "InSync").await;
    f.reason("KonaServer", "again", "InSync").await;
    crowd(&mut f, &kona, &["kona", "again"], 12).await;
    assert_eq!(kona.requests().peak_in_flight(), 2);
    // They have one password, one CA and one URL: one session.
    let (logins, refreshes, reads, writes) = exchanges(kona.counts());
    assert_eq!((logins, refreshes, writes), (1, 0, 12));
    assert!((24..24 + 12).contains(&reads), "{reads}");
    for (name, is_told) in [("kona", false), ("again", true)] {
        let server = f.look("KonaServer", name, "now").await;
        assert_eq!(message(&server).contains("lower limits"), is_told, "{name}: {}", message(&server));
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_waits_for_its_server() {
    let kona = KonaServer::start(KonaOptions::default()).unwrap();
    let acme = kona.add_customer(&id(1), "Acme");
    let mut f = Fixture::new("waits").await;
    f.apply(&customer("acme", acme.id(), 3600, 86400)).await;
    f.start().await;
    let object = f.reason(CTT, "acme", "ServerNotFound").await;
    assert_eq!(condition(&object, "Reconciling")["status"], "True");
    assert!(message(&object).contains("KonaServer kona"), "{}", message(&object));
    f.event("acme", "ServerNotFound").await;
    f.kona(&kona).await;
    f.reason(CTT, "acme", "InSync").await;

    // Without its server again, nothing that was proven is forgotten.
    f.ns.delete_object("KonaServer", "kona").await.unwrap();
    let object = f.reason(CTT, "acme", "ServerNotFound").await;
    assert_eq!(status(&object)["proven"]["accessTokenTtlSeconds"], 3600);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unprotected_is_shown() {
    let plain = KonaServer::start(KonaOptions { tls: false, ..KonaOptions::default() }).unwrap();
    let (mut f, kona) = world("insecure").await;
    let spec = json!({"apiVersion": "tenure.dev/v1alpha1", "kind": "KonaServer", "spec": {"credentialsSecretRef": {"name": "kona-admin"}}});
    let clear = json!({"metadata": {"name": "clear"}, "spec": {"url": plain.url(), "allowPlaintext": true}});
    f.apply(&with(spec.clone(), clear)).await;
    let lax = json!({"metadata": {"name": "lax"}, "spec": {"url": kona.url(), "tls": {"insecureSkipVerify": true}}});
    f.apply(&with(spec, lax)).await;
    for (n, (name, server)) in [("clear", &plain), ("lax", &kona)].into_iter().enumerate() {
        server.add_customer(&id(n), "Customer");
        f.apply(&with(customer(name, &id(n), 3600, 86400), json!({"spec": {"serverRef": {"name": name}}})))
            .await;
    }
    f.start().await;
    for (name, word) in [("clear", "http://"), ("lax", "insecureSkipVerify")] {
        let server = f.reason("KonaServer", name, "InSync").await;
        let insecure = condition(&server, "Insecure");
        assert_eq!(insecure["status"], "True");
        assert!(insecure["message"].as_str().unwrap().contains(word), "{insecure}");
        f.reason(CTT, name, "InSync").await;
    }
    assert!(condition(&f.reason("KonaServer", "kona", "InSync").await, "Insecure").is_null());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_goes_by_the_name_in_its_certificate() {
    let (mut f, kona) = world("named").await;
    f.patch("KonaServer", "kona", json!({"spec": {"tls": {"serverName": kona.dns_name()}}})).await;
    kona.add_customer(&id(1), "Acme");
    f.apply(&customer("acme", &id(1), 3600, 86400)).await;
    f.start().await;
    f.reason(CTT, "acme", "InSync").await;
    for entry in kona.requests().entries() {
        assert_eq!(entry.server_name.as_deref(), Some(kona.dns_name()), "{}", entry.line);
        assert_eq!(entry.host.as_deref(), kona.url().strip_prefix("https://"), "{}", entry.line);
    }
    f.finish().await;
}
