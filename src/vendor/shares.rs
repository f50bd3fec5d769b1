//! What all namespaces share, bounded for each of them and in all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of units that callers take and give back.
#[derive(Debug)]
pub(super) struct Shares {
    each: usize,
    all: Arc<Semaphore>,
    namespaces: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// Units that were taken. They are released when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    all: OwnedSemaphorePermit,
    namespace: OwnedSemaphorePermit,
}

impl Share {
    /// Releases all but some of it.
    pub(super) fn keep(&mut self, units: usize) {
        for permits in [&mut self.all, &mut self.namespace] {
            drop(permits.split(permits.num_permits().saturating_sub(units)));
        }
    }
}

impl Shares {
    /// As many units for `each` namespace, and for `all` of them.
    pub(super) fn new(each: usize, all: usize) -> Self {
        Self { each, all: Arc::new(Semaphore::new(all)), namespaces: Mutex::default() }
    }

    /// Waits until there is room for some more units of a namespace. None if there never is: a namespace has fewer.
    pub(super) async fn take(&self, namespace: &str, units: usize) -> Option<Share> {
        let units = u32::try_from(units).ok().filter(|_| units <= self.each)?;
        // In this order: who waits for its namespace holds up no other one.
        let namespace = self.of(namespace).acquire_many_owned(units).await.ok()?;
        let all = Arc::clone(&self.all).acquire_many_owned(units).await.ok()?;
        Some(Share { all, namespace })
    }

    /// Drops what is kept of namespaces that have taken nothing; to be called now and then.
    pub(super) fn purge(&self) {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        namespaces.retain(|_, units| units.strong_count() > 0);
    }

    /// Units that are taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        let namespaces = self.namespaces.lock().unwrap();
        namespaces.values().filter_map(Weak::upgrade).map(|units| self.each - units.available_permits()).sum()
    }

    fn of(&self, namespace: &str) -> Arc<Semaphore> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = namespaces.get(namespace).and_then(Weak::upgrade) {
            return known;
        }
        let units = Arc::new(Semaphore::new(self.each));
        namespaces.insert(namespace.to_owned(), Arc::downgrade(&units));
        units
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn one_namespace_takes_no_more_than_its_share_and_all_no_more_than_there_is() {
        let shares = Shares::new(2, 3);
        let take = |namespace, units| shares.take(namespace, units).now_or_never().map(Option::unwrap);
        let (first, second) = (take("a", 1).unwrap(), take("a", 1).unwrap());
        assert!(take("a", 1).is_none(), "it waits");
        let other = take("b", 1).unwrap();
        assert!(take("c", 1).is_none(), "all is taken");
        drop(first);
        let third = take("c", 1).unwrap();
        drop((second, other, third));
        let mut large = take("a", 2).unwrap();
        assert!(take("a", 1).is_none());
        large.keep(1);
        assert!(take("a", 1).is_some());
        drop(large);
        assert!(shares.take("a", 3).now_or_never().unwrap().is_none(), "more than a namespace has");
        shares.purge();
        assert!(shares.namespaces.lock().unwrap().is_empty());
        assert_eq!(shares.all.available_permits(), 3);
    }
}
