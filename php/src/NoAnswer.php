<?php

declare(strict_types=1);

namespace Ws2Api;

/** There is no answer, and there will be none: ws2api says so. */
final class NoAnswer extends PushFailed
{
    /** The client did not answer in time, or the wait was shorter. */
    public const TIMEOUT = 'Timeout';
    /** The connection ended. */
    public const DISCONNECTED = 'Disconnected';
    /** The client connected anew. */
    public const REPLACED = 'Replaced';
    /** ws2api is ending. */
    public const SHUTDOWN = 'Shutdown';
    /** The client's answer was broken. */
    public const BAD_ANSWER = 'BadAnswer';

    /**
     * @param string $reason one of the constants
     * @param bool $sent false: the client has never seen it
     */
    public function __construct(
        public readonly string $reason,
        public readonly string $description,
        public readonly bool $sent,
    ) {
        parent::__construct("no answer ($reason): $description");
    }

    /** @param array<mixed> $body `{"code","description","details":{"sent":…}}` */
    public static function from(array $body): self
    {
        // What does not say that it was not sent may have been.
        $sent = ($body['details']['sent'] ?? true) !== false;
        return new self((string) ($body['code'] ?? ''), (string) ($body['description'] ?? ''), $sent);
    }

    public function mayHaveRun(): bool
    {
        return $this->sent;
    }
}
