//! Takes over a configuration that was read again.

use super::Shard;
use super::control_plane::Reload;

impl Shard {
    /// What can change in a shard that runs does.
    pub(super) fn reload(&self, reload: &Reload) {
        self.env.core.set(reload.config.cores[self.env.index].clone());
        self.env.node.set(reload.config.node.clone());
        self.env.buffers.set_max(self.env.core.buffers_max);
        self.pool.set_trust(reload.secrets.trust.as_ref());
        self.clients.handle_reload();
        self.clients.tls.set(reload.secrets.tls.as_ref());
        self.ingress.set_token(reload.secrets.ingress_token.clone());
    }
}
