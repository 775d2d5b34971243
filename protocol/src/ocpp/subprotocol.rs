//! Negotiates the OCPP version that a client speaks (RFC 6455, 4.2.2; OCPP-J, 3.1.2), and says what differs between
//! them.

/// The conversation's rules. The names themselves are the configured list's.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Subprotocol {
    /// None was offered: the same frames, but any JSON value is a payload and MessageIds may be longer.
    #[default]
    None,
    /// `ocpp1.6`: its own spelling of error codes; unreadable frames are not answered.
    Ocpp16,
    /// `ocpp2.0.1`.
    Ocpp201,
    /// `ocpp2.1`: also CallResultError (5) and SEND (6).
    Ocpp21,
    /// Another configured one, by its index there: the rules of [`Subprotocol::None`].
    Other(u8),
}

/// What to answer an opening handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Negotiated<'c> {
    /// The answer names it in `Sec-WebSocket-Protocol`.
    Chosen {
        /// The rules that hold from now on.
        subprotocol: Subprotocol,
        /// Its name, for everybody but the client.
        name: &'c str,
        /// As the client spells it, for the answer's header.
        spelling: &'c str,
    },
    /// None offered, none needed: 101 without the header, [`Subprotocol::None`].
    NoneOffered,
    /// None offered although one is required: the handshake is refused.
    Required,
    /// Offered, but none that we speak: 101 without the header, then close 1002 (OCPP-J, 3.1.2); backend not asked.
    NoneInCommon,
}

/// Chooses among what the client offers, in the client's order, comparing exactly.
///
/// `offered`: the values of its `Sec-WebSocket-Protocol` header lines, in order; each may list several. `configured`:
/// names, or `alias=name` where clients spell one in their own way. `required`: whether a client that offers none is
/// refused.
pub fn negotiate<'c, 'o, S: AsRef<str>>(
    offered: impl IntoIterator<Item = &'o str>,
    configured: &'c [S],
    required: bool,
) -> Negotiated<'c> {
    let mut any = false;
    for name in offered
        .into_iter()
        .flat_map(|line| line.split(','))
        .map(trim)
        .filter(|name| !name.is_empty())
    {
        any = true;
        let own = configured.iter().map(|own| split_alias(own.as_ref()));
        if let Some((index, (spelling, name))) = own.enumerate().find(|(_, (spelling, _))| *spelling == name) {
            return Negotiated::Chosen {
                subprotocol: Subprotocol::from_configured(name, index),
                name,
                spelling,
            };
        }
    }
    match (any, required) {
        (true, _) => Negotiated::NoneInCommon,
        (false, true) => Negotiated::Required,
        (false, false) => Negotiated::NoneOffered,
    }
}

impl Subprotocol {
    fn from_configured(name: &str, index: usize) -> Self {
        match name {
            "ocpp1.6" => Self::Ocpp16,
            "ocpp2.0.1" => Self::Ocpp201,
            "ocpp2.1" => Self::Ocpp21,
            _ => u8::try_from(index).map_or(Self::None, Self::Other),
        }
    }

    /// Its name on the wire; `None` without a subprotocol. `configured` is the list that was negotiated with.
    pub fn name<S: AsRef<str>>(self, configured: &[S]) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Ocpp16 => Some("ocpp1.6"),
            Self::Ocpp201 => Some("ocpp2.0.1"),
            Self::Ocpp21 => Some("ocpp2.1"),
            Self::Other(index) => configured
                .get(usize::from(index))
                .map(|own| split_alias(own.as_ref()).1),
        }
    }

    /// Whether OCPP's own limits hold: payloads are objects, MessageIds have at most 36 characters.
    pub fn is_ocpp(self) -> bool {
        matches!(self, Self::Ocpp16 | Self::Ocpp201 | Self::Ocpp21)
    }

    /// Whether message types 5 and 6 exist (OCPP-J 2.1, 4.2.4 and 4.2.5).
    pub fn has_send(self) -> bool {
        self == Self::Ocpp21
    }

    /// The error code for a Call whose form is wrong. OCPP 1.6 spells it in its own way.
    pub fn format_violation(self) -> &'static str {
        match self {
            Self::Ocpp16 => "FormationViolation",
            _ => "FormatViolation",
        }
    }

    /// The error code for a Call that reuses an open MessageId. OCPP 1.6 has no RpcFrameworkError.
    pub fn repeated_id(self) -> &'static str {
        match self {
            Self::Ocpp16 => "GenericError",
            _ => "RpcFrameworkError",
        }
    }

    /// The error code for a frame without a readable MessageId, sent with the id `"-1"`. `None`: it is not answered
    /// (OCPP 1.6 has no word for it).
    pub fn unreadable(self) -> Option<&'static str> {
        match self {
            Self::Ocpp16 => None,
            _ => Some("RpcFrameworkError"),
        }
    }
}

/// What clients write, and the name that it stands for. A name itself has no `=`: it is a token.
fn split_alias(configured: &str) -> (&str, &str) {
    configured.split_once('=').unwrap_or((configured, configured))
}

/// Without optional white space (RFC 9110, 5.6.3).
fn trim(name: &str) -> &str {
    name.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: [&str; 4] = ["ocpp2.1", "ocpp2.0.1", "ocpp1.6", "meter"];

    fn chosen(subprotocol: Subprotocol, name: &str) -> Negotiated<'_> {
        Negotiated::Chosen {
            subprotocol,
            name,
            spelling: name,
        }
    }

    #[test]
    fn an_alias_is_echoed_and_means_its_name() {
        let configured = ["ocpp2.0.1", "ocpp1.6", "ocpp1.6j=ocpp1.6", "OCPP1.6=ocpp1.6", "m=meter"];
        for (offered, subprotocol, name) in [
            ("ocpp1.6j", Subprotocol::Ocpp16, "ocpp1.6"),
            ("OCPP1.6", Subprotocol::Ocpp16, "ocpp1.6"),
            ("m", Subprotocol::Other(4), "meter"),
        ] {
            let expected = Negotiated::Chosen {
                subprotocol,
                name,
                spelling: offered,
            };
            assert_eq!(negotiate([offered], &configured, false), expected);
            assert_eq!(subprotocol.name(&configured), Some(name));
        }
        assert_eq!(negotiate(["ocpp1.6J"], &configured, false), Negotiated::NoneInCommon);
        let many: Vec<String> = (0..300).map(|number| format!("p{number}")).collect();
        assert!(
            matches!(negotiate(["p299"], &many, false), Negotiated::Chosen { .. }),
            "and no end of the process"
        );
    }

    #[test]
    fn the_clients_order_wins_and_names_match_exactly() {
        let cases: &[(&[&str], Negotiated<'_>)] = &[
            (&["ocpp1.6"], chosen(Subprotocol::Ocpp16, "ocpp1.6")),
            (&["ocpp1.6, ocpp2.1"], chosen(Subprotocol::Ocpp16, "ocpp1.6")),
            (&["ocpp1.6", "ocpp2.1"], chosen(Subprotocol::Ocpp16, "ocpp1.6")),
            (&["ocpp9, ocpp2.1"], chosen(Subprotocol::Ocpp21, "ocpp2.1")),
            (&["ocpp9,\tocpp2.0.1 ,,"], chosen(Subprotocol::Ocpp201, "ocpp2.0.1")),
            (&["x", " meter "], chosen(Subprotocol::Other(3), "meter")),
            (&["OCPP1.6"], Negotiated::NoneInCommon),
            (&["ocpp1.60"], Negotiated::NoneInCommon),
            (&["ocpp1.6 ocpp2.1"], Negotiated::NoneInCommon),
        ];
        assert!(!cases.is_empty());
        for (offered, expected) in cases {
            for required in [false, true] {
                assert_eq!(
                    negotiate(offered.iter().copied(), &CONFIGURED, required),
                    *expected,
                    "{offered:?}"
                );
            }
        }
    }

    #[test]
    fn without_an_offer_a_client_is_accepted_unless_one_is_required() {
        for offered in [&[][..], &[""], &[" , "]] {
            assert_eq!(
                negotiate(offered.iter().copied(), &CONFIGURED, false),
                Negotiated::NoneOffered
            );
            assert_eq!(
                negotiate(offered.iter().copied(), &CONFIGURED, true),
                Negotiated::Required
            );
        }
    }

    #[test]
    fn nothing_configured_means_nothing_in_common() {
        assert_eq!(negotiate(["ocpp1.6"], &[] as &[&str], false), Negotiated::NoneInCommon);
    }

    #[test]
    fn a_chosen_name_is_found_again() {
        for name in CONFIGURED {
            let Negotiated::Chosen {
                subprotocol,
                name: chosen,
                ..
            } = negotiate([name], &CONFIGURED, false)
            else {
                panic!("{name} is configured");
            };
            assert_eq!((chosen, subprotocol.name(&CONFIGURED)), (name, Some(name)));
        }
        assert_eq!(Subprotocol::None.name(&CONFIGURED), None);
    }

    #[test]
    fn ocpp_1_6_has_its_own_words() {
        let words = |subprotocol: Subprotocol| {
            (
                subprotocol.format_violation(),
                subprotocol.repeated_id(),
                subprotocol.unreadable(),
            )
        };
        assert_eq!(words(Subprotocol::Ocpp16), ("FormationViolation", "GenericError", None));
        for other in [
            Subprotocol::None,
            Subprotocol::Ocpp201,
            Subprotocol::Ocpp21,
            Subprotocol::Other(0),
        ] {
            assert_eq!(
                words(other),
                ("FormatViolation", "RpcFrameworkError", Some("RpcFrameworkError"))
            );
        }
    }
}
