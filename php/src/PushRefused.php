<?php

declare(strict_types=1);

namespace Ws2Api;

/** ws2api did not take it: nothing was sent, and no outcome follows. */
final class PushRefused extends PushFailed
{
    /** @param int|null $retryAfter seconds */
    public function __construct(
        public readonly int $status,
        public readonly string $error,
        public readonly ?int $retryAfter = null,
    ) {
        parent::__construct("refused with $status: $error");
    }

    public static function from(Response $response): self
    {
        $error = (string) (Json::members($response->body)['error'] ?? '');
        return new self($response->status, $error, $response->retryAfter());
    }

    /** The client is not connected; of a deferred Call: or it is no longer open. */
    public function isNotConnected(): bool
    {
        return $this->status === 404;
    }

    /** A push with this MessageId has no outcome yet; of a deferred Call: it has been answered. */
    public function isRepeated(): bool
    {
        return $this->status === 409;
    }

    /** Another connection of the client than the one that was meant. */
    public function isAnotherConnection(): bool
    {
        return $this->status === 412;
    }

    /** The client's queue is full (429), or ws2api overloaded or ending (503): later it may go through. */
    public function isTemporary(): bool
    {
        return $this->status === 429 || $this->status === 503;
    }

    public function mayHaveRun(): bool
    {
        return false;
    }
}
