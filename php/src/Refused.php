<?php

declare(strict_types=1);

namespace Ws2Api;

/** Thrown when a client wants in: it is refused with this status instead of 403. ws2api passes 401, 403, 404, 429 and 503 on. */
final class Refused extends \RuntimeException
{
    /** @param array<string, string> $headers */
    public function __construct(public readonly int $status = 403, public readonly array $headers = [])
    {
        parent::__construct("refused with $status");
    }

    /** No password, or a wrong one: the client may try again with another. */
    public static function password(string $realm): self
    {
        return new self(401, ['WWW-Authenticate' => 'Basic realm="' . addcslashes($realm, '"\\') . '"']);
    }

    /** Not now: 429 is for this client alone, 503 for everybody. */
    public static function later(int $seconds, int $status = 503): self
    {
        return new self($status, ['Retry-After' => (string) $seconds]);
    }
}
