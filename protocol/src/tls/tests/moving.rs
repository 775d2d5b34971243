//! Shows that a connection goes on in another process.

use super::*;
use crate::record::{Field, Fields, RecordError, Writer};

/// The same in another process.
pub(super) fn moved(records: &Records) -> Records {
    let record = written(records);
    let moved = Records::from_record(Fields::of_record(&record).unwrap()).unwrap();
    assert_eq!(written(&moved), record);
    moved
}

fn written(records: &Records) -> Vec<u8> {
    let mut record = Vec::new();
    records.write_record(&mut Writer::new(&mut record));
    record
}

/// The same, but for what `change` writes of one direction's keys, a field at a time.
pub(super) fn with_keys(records: &Records, direction: u32, change: impl Fn(&mut Writer<'_>, Field<'_>)) -> Records {
    let record = written(records);
    let mut fields = Fields::of_record(&record).unwrap();
    let mut changed = Vec::new();
    let mut writer = Writer::new(&mut changed);
    while let Some(field) = fields.next().unwrap() {
        if field.number != direction {
            writer.bytes(field.number, field.bytes());
            continue;
        }
        writer.fields(field.number, |writer| {
            let mut keys = field.fields();
            while let Some(field) = keys.next().unwrap() {
                change(writer, field);
            }
        });
    }
    Records::from_record(Fields::of_record(&changed).unwrap()).unwrap()
}

// Of a record, and of what is written of keys.
pub(super) const SENDING: u32 = 3;
pub(super) const RECEIVING: u32 = 4;
pub(super) const IV: u32 = 2;
pub(super) const SEQUENCE: u32 = 4;

#[test]
fn a_connection_goes_on_behind_every_record_and_every_byte() {
    for mut pair in Pair::all() {
        for round in 0..3 {
            assert_eq!(pair.send(&[b"from us"]), b"from us");
            pair.ours = moved(&pair.ours);
            let sent = sealed(&mut pair.theirs, b"from them");
            let mut plain = Vec::new();
            for piece in sent.chunks(1) {
                plain.append(&mut pair.open(piece, 1));
                pair.ours = moved(&pair.ours);
            }
            assert_eq!(plain, b"from them", "{:?}, round {round}", pair.facts.suite);
        }
    }
}

#[test]
fn what_was_owed_and_what_is_over_stay_so() {
    let mut pair = Pair::server(Suite::Aes256GcmSha384);
    pair.theirs.refresh_traffic_keys().unwrap();
    assert_eq!(pair.receive(usize::MAX), b"");
    pair.ours = moved(&pair.ours);
    let mut out = Vec::new();
    pair.ours.seal(&[b"x"], &mut out).unwrap();
    assert!(out.len() > pair.ours.sealed_len(1), "the key update is in it");
    assert_eq!(given(&mut pair.theirs, &out).unwrap(), b"x");
    pair.theirs.send_close_notify();
    let mut sent = taken(&mut pair.theirs);
    assert_eq!(pair.ours.open(&mut sent).end, Some(End::CloseNotify));
    let mut moved = moved(&pair.ours);
    assert_eq!(moved.open(&mut sealed(&mut pair.theirs, b"")).end, None);
    moved.close(&mut out);
    let mut moved = self::moved(&moved);
    assert_eq!(moved.seal(&[b"x"], &mut out), Err(SealError::Closed));
}

#[test]
fn a_record_that_is_none_is_refused() {
    for suite in [Suite::Aes128GcmSha256, Suite::EcdheRsaAes256GcmSha384] {
        let record = written(&both(suite).1);
        assert!(record.len() < 160, "{} bytes", record.len());
        for len in 1..record.len() {
            let cut = Records::from_record(Fields::of_record(&record[..len]).unwrap());
            assert!(cut.is_err(), "{len} bytes of it");
        }
        let mut other = Vec::new();
        Writer::new(&mut other).number(1, 0x1301);
        let result = Records::from_record(Fields::of_record(&other).unwrap());
        assert_eq!(result.err(), Some(RecordError::Field(3)));
        let mut unknown = Vec::new();
        Writer::new(&mut unknown).number(1, 0x002f);
        let result = Records::from_record(Fields::of_record(&unknown).unwrap());
        assert_eq!(result.err(), Some(RecordError::Field(1)));
    }
}

#[test]
fn no_secret_is_shown() {
    let records = both(Suite::Aes128GcmSha256).1;
    let shown = format!("{records:?}");
    assert!(
        shown.starts_with("Records { suite: Aes128GcmSha256, side: Server, sent: "),
        "{shown}"
    );
    assert!(shown.len() < 80, "{shown}");
}
