<?php

declare(strict_types=1);

namespace Ws2Api;

/** A push that ws2api took: exactly one outcome comes to `#[OnResult]` or `#[OnError]`. */
final class Accepted
{
    /** @param bool $isQueued the client has another push to answer first */
    public function __construct(
        public readonly string $messageId,
        public readonly string $connectionId,
        public readonly bool $isQueued,
    ) {
    }
}
