//! A peer whose records rustls seals and opens: what either side says arrives, in pieces of any length, with changes of keys, and
//! behind each a change of the process. What rustls cannot open is nobody's text. And any bytes as what is kept of a connection
//! are read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::record::{Fields, Writer};
use protocol::tls::{End, Fault, RECORD_LEN_MAX, Records, SealError, Suite, Version};
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
};
use rustls::crypto::ring::ALL_CIPHER_SUITES;
use rustls::crypto::tls13::OkmBlock;
use rustls::{ContentType, ProtocolVersion, SupportedCipherSuite};

fuzz_target!(|input: &[u8]| {
    believe_nothing(input);
    converse(&mut Choices(input));
});

fn converse(input: &mut Choices<'_>) {
    let suite = SUITES[input.below(SUITES.len())];
    let (mut out, mut back) = (Direction::new(suite, 1), Direction::new(suite, 2));
    let mut ours = moved(&record_of(suite, &out, &back));
    let mut wire = Wire::default();
    let mut can_send = true;
    while !input.0.is_empty() {
        match input.below(10) {
            0 | 1 if can_send => {
                let texts = [input.text(), input.text()];
                let mut sealed = Vec::new();
                ours.seal(&[&texts[0], &texts[1]], &mut sealed)
                    .expect("nothing is closed");
                assert!(sealed.len() <= ours.sealed_len(texts[0].len() + texts[1].len()) + ours.sealed_len(5));
                assert_eq!(out.open_all(&sealed), texts.concat());
            }
            2 if input.below(8) == 0 => {
                let mut sealed = Vec::new();
                ours.close(&mut sealed);
                can_send = false;
                assert_eq!(ours.seal(&[b"x"], &mut sealed), Err(SealError::Closed));
            }
            2..=4 => {
                let text = input.text();
                wire.record(back.seal(23, &text), Said::Text(text));
            }
            5 if suite.version() == Version::Tls13 => {
                let update = [24, 0, 0, 1, input.below(2) as u8];
                wire.record(back.seal(22, &update), Said::Text(Vec::new()));
                back.update();
            }
            // Whatever this does, it does no harm; but what comes of it depends on more than this knows.
            6 if input.below(4) == 0 => {
                let (kind, content) = (input.below(26) as u8, input.text());
                wire.record(back.seal(kind, &content), Said::Other);
            }
            7 if input.below(4) == 0 => wire.garble(input),
            8 => ours = moved(&written(&ours)),
            _ => {
                let len = 1 + input.below(256) * (1 + input.below(200));
                if !wire.deliver(len, &mut ours) {
                    return;
                }
            }
        }
    }
}

/// What the peer has sent and we have not seen.
#[derive(Default)]
struct Wire {
    bytes: Vec<u8>,
    /// Where each record ends, counted in all that was delivered, and what it is.
    records: Vec<(usize, Said)>,
    sent: usize,
    delivered: usize,
    /// From here on, in the same count, it is what nobody has sealed.
    broken_at: Option<usize>,
}

enum Said {
    Text(Vec<u8>),
    Other,
}

impl Wire {
    fn record(&mut self, record: Vec<u8>, said: Said) {
        if record.len() > RECORD_LEN_MAX {
            return;
        }
        self.sent += record.len();
        self.bytes.extend_from_slice(&record);
        self.records.push((self.sent, said));
    }

    fn garble(&mut self, input: &mut Choices<'_>) {
        // Once: a second time might put it right.
        if self.bytes.is_empty() || self.broken_at.is_some() {
            return;
        }
        let at = (input.below(256) << 8 | input.below(256)) % self.bytes.len();
        self.bytes[at] ^= 1 << input.below(8);
        self.broken_at = Some(self.delivered + at);
    }

    /// False: it is over, or nothing more can be said of it.
    fn deliver(&mut self, len: usize, ours: &mut Records) -> bool {
        let mut buffer = vec![0x5a; RECORD_LEN_MAX + len];
        let kept = ours.begin(&mut buffer);
        assert!(kept < RECORD_LEN_MAX);
        let piece: Vec<u8> = self.bytes.drain(..len.min(self.bytes.len())).collect();
        buffer[kept..kept + piece.len()].copy_from_slice(&piece);
        let opened = ours.open(&mut buffer[..kept + piece.len()]);
        self.delivered += piece.len();
        let mut text = &buffer[..opened.plain_len];
        let mut start = self.delivered - piece.len() - kept;
        while let Some((end, said)) = self.records.first() {
            let is_broken = self.broken_at.is_some_and(|broken| broken < *end);
            if is_broken || *end > self.delivered {
                break;
            }
            match said {
                Said::Text(said) => match text.strip_prefix(&said[..]) {
                    Some(rest) => text = rest,
                    // After too many records in a row without a text nothing more is opened.
                    None => {
                        assert_eq!(opened.end, Some(End::Fault(Fault::Fruitless)));
                        return false;
                    }
                },
                Said::Other => return false,
            }
            start = *end;
            self.records.remove(0);
        }
        assert!(text.is_empty(), "what nobody has said");
        match opened.end {
            None => {
                let is_broken_whole = self.broken_at.is_some() && self.delivered > start + RECORD_LEN_MAX;
                assert!(!is_broken_whole, "a record that is none has an end");
                true
            }
            Some(End::Fault(Fault::Fruitless)) => false,
            Some(End::Fault(_)) => {
                // A record may be refused by its header.
                let is_other = matches!(self.records.first(), Some((_, Said::Other)));
                assert!(is_other || self.broken_at.is_some());
                false
            }
            Some(End::CloseNotify | End::Alert(_)) => panic!("nobody has said so"),
        }
    }
}

/// One direction, as rustls does it. Its keys have 32 bytes: others it takes from nobody but itself.
struct Direction {
    suite: SupportedCipherSuite,
    secret: Vec<u8>,
    key: [u8; 32],
    iv: [u8; 12],
    sequence: u64,
}

impl Direction {
    fn new(suite: Suite, number: u8) -> Self {
        let suite = *ALL_CIPHER_SUITES
            .iter()
            .find(|known| u16::from(known.suite()) == suite.number())
            .expect("rustls has it");
        let secret_len = if suite.suite() == rustls::CipherSuite::TLS13_AES_256_GCM_SHA384 {
            48
        } else {
            32
        };
        let mut direction = Self {
            suite,
            secret: vec![number; secret_len],
            key: [number; 32],
            iv: [number ^ 0xff; 12],
            sequence: 0,
        };
        direction.derive();
        direction
    }

    fn derive(&mut self) {
        if self.suite.tls13().is_some() {
            self.key = self.expand(b"key", 32).try_into().expect("its length");
            self.iv = self.expand(b"iv", 12).try_into().expect("its length");
        }
    }

    fn update(&mut self) {
        self.secret = self.expand(b"traffic upd", self.secret.len());
        self.sequence = 0;
        self.derive();
    }

    fn expand(&self, label: &[u8], len: usize) -> Vec<u8> {
        let mut info = vec![0, len as u8, 6 + label.len() as u8];
        info.extend_from_slice(b"tls13 ");
        info.extend_from_slice(label);
        info.push(0);
        let hkdf = self.suite.tls13().expect("TLS 1.3").hkdf_provider;
        let mut out = vec![0; len];
        let expander = hkdf.expander_for_okm(&OkmBlock::new(&self.secret));
        expander.expand_slice(&[&info], &mut out).expect("a short one");
        out
    }

    fn encrypter(&self) -> Box<dyn MessageEncrypter> {
        let key = AeadKey::from(self.key);
        match self.suite {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.encrypter(key, Iv::from(self.iv)),
            SupportedCipherSuite::Tls12(suite) => {
                let (fixed, extra) = self.iv.split_at(suite.aead_alg.key_block_shape().fixed_iv_len);
                suite.aead_alg.encrypter(key, fixed, extra)
            }
        }
    }

    fn decrypter(&self) -> Box<dyn MessageDecrypter> {
        let key = AeadKey::from(self.key);
        match self.suite {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, Iv::from(self.iv)),
            SupportedCipherSuite::Tls12(suite) => {
                let len = suite.aead_alg.key_block_shape().fixed_iv_len;
                suite.aead_alg.decrypter(key, &self.iv[..len])
            }
        }
    }

    fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let message = OutboundPlainMessage {
            typ: ContentType::from(kind),
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(content),
        };
        let sealed = self.encrypter().encrypt(message, self.sequence).expect("it seals");
        self.sequence += 1;
        sealed.encode()
    }

    /// The text of whole records, all good.
    fn open_all(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        while let [kind, 3, 3, high, low, rest @ ..] = bytes {
            let (body, rest) = rest.split_at(usize::from(*high) << 8 | usize::from(*low));
            bytes = rest;
            let mut body = body.to_vec();
            let message = InboundOpaqueMessage::new(ContentType::from(*kind), ProtocolVersion::TLSv1_2, &mut body);
            let message = self.decrypter().decrypt(message, self.sequence).expect("it opens");
            self.sequence += 1;
            if message.typ == ContentType::Handshake {
                assert_eq!(message.payload, [24, 0, 0, 1, 0]);
                self.update();
            } else {
                assert_eq!(message.typ, ContentType::ApplicationData);
                assert!(!message.payload.is_empty());
                text.extend_from_slice(message.payload);
            }
        }
        assert!(bytes.is_empty());
        text
    }

    fn write(&self, record: &mut Writer<'_>) {
        if self.suite.tls13().is_some() {
            record.bytes(3, &self.secret);
        } else {
            // Of a nonce that travels in part, each side chooses that part for itself.
            let mut iv = self.iv;
            if let SupportedCipherSuite::Tls12(suite) = self.suite {
                iv[suite.aead_alg.key_block_shape().fixed_iv_len..].fill(0x77);
            }
            record.bytes(1, &self.key);
            record.bytes(2, &iv);
        }
    }
}

fn record_of(suite: Suite, out: &Direction, back: &Direction) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut record = Writer::new(&mut bytes);
    record.number(1, suite.number().into());
    record.fields(3, |record| out.write(record));
    record.fields(4, |record| back.write(record));
    bytes
}

fn written(records: &Records) -> Vec<u8> {
    let mut bytes = Vec::new();
    records.write_record(&mut Writer::new(&mut bytes));
    bytes
}

fn moved(record: &[u8]) -> Records {
    Records::from_record(Fields::of_record(record).expect("its own")).expect("its own")
}

/// Whatever is read can be written, and is the same when it is read again.
fn believe_nothing(bytes: &[u8]) {
    let Ok(mut records) = Records::from_record(Fields::only(bytes)) else {
        return;
    };
    let first = written(&records);
    assert_eq!(written(&moved(&first)), first);
    let mut out = Vec::new();
    let _ = records.seal(&[b"text"], &mut out);
    let mut buffer = vec![0; 2 * RECORD_LEN_MAX];
    let kept = records.begin(&mut buffer);
    records.open(&mut buffer[..kept + 5]);
    records.close(&mut out);
}

const SUITES: [Suite; 4] = [
    Suite::Aes256GcmSha384,
    Suite::Chacha20Poly1305Sha256,
    Suite::EcdheRsaAes256GcmSha384,
    Suite::EcdheEcdsaChacha20Poly1305,
];

struct Choices<'i>(&'i [u8]);

impl Choices<'_> {
    fn below(&mut self, limit: usize) -> usize {
        self.0.split_off_first().map_or(0, |byte| usize::from(*byte) % limit)
    }

    /// Often short, seldom about as long as a record can be.
    fn text(&mut self) -> Vec<u8> {
        let len = match self.below(8) {
            0 => 0,
            1 => 16_370 + self.below(30),
            2 => self.below(256) * 17,
            _ => self.below(64),
        };
        let first = self.below(256) as u8;
        (0..len.min(1 << 14)).map(|at| first.wrapping_add(at as u8)).collect()
    }
}
