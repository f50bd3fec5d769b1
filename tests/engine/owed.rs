//! Changes that were made and are to be recorded.

use tenure::engine::owed::Owed;

#[test]
fn what_a_report_without_an_answer_has_recorded_is_not_recorded_again() {
    let mut owed = Owed::default();
    owed.add(1);
    owed.unanswered();
    owed.add(2);
    assert_eq!(owed.unrecorded(|_| false), [&1, &2], "the report was not taken");
    assert_eq!(owed.unrecorded(|change| *change == 1), [&2]);
    // What came after that report is not in the status, even if it looks the same.
    assert_eq!(owed.unrecorded(|_| true), [&2]);
    owed.clear();
    assert!(owed.is_empty() && owed.unrecorded(|_| false).is_empty());
}

#[test]
fn no_change_owes_nothing() {
    let mut owed = Owed::<u32>::default();
    owed.add(None);
    assert!(owed.is_empty());
}
