//! Names why a request got no answer.

/// Why the backend did not answer. The world's fault, never the client's.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Failure {
    /// No connection could be made.
    Refused,
    /// The connection ended before the answer was whole.
    CutOff,
    /// The answer is not HTTP that we accept.
    Malformed,
    /// The answer exceeds `message_max`.
    TooLarge,
    /// No answer within `call_timeout`.
    Deadline,
    /// Too many requests wait for a connection.
    Overloaded,
    /// This process is ending.
    Shutdown,
}

impl Failure {
    /// For the CallError's description.
    pub fn description(self) -> &'static str {
        match self {
            Self::Refused => "the backend refused the connection",
            Self::CutOff => "the backend's answer was cut off",
            Self::Malformed => "the backend's answer is not valid HTTP",
            Self::TooLarge => "the backend's answer is too large",
            Self::Deadline => "the backend did not answer in time",
            Self::Overloaded => "too many requests wait for the backend",
            Self::Shutdown => "the proxy is shutting down",
        }
    }
}
