//! Changes that were made and that no status is known to have on record yet.

/// Changes made but not recorded yet.
#[derive(Debug)]
pub struct Owed<C> {
    changes: Vec<C>,
    /// How many of them were in a report that got no answer: it may have been taken.
    reported: usize,
}

impl<C> Default for Owed<C> {
    fn default() -> Self {
        Self { changes: Vec::new(), reported: 0 }
    }
}

impl<C> std::ops::Deref for Owed<C> {
    type Target = [C];

    fn deref(&self) -> &[C] {
        &self.changes
    }
}

impl<C> Owed<C> {
    /// One more.
    pub fn add(&mut self, change: impl Into<Option<C>>) {
        self.changes.extend(change.into());
    }

    /// A report of all of them got no answer.
    pub fn unanswered(&mut self) {
        self.reported = self.changes.len();
    }

    /// They are recorded, or of no interest anymore.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Those that are to be recorded: not what a report without an answer has recorded, as `is_recorded` decides.
    pub fn unrecorded(&self, is_recorded: impl Fn(&C) -> bool) -> Vec<&C> {
        let changes = self.changes.iter().enumerate();
        changes
            .filter(|(index, change)| *index >= self.reported || !is_recorded(change))
            .map(|(_, change)| change)
            .collect()
    }
}
