<?php

declare(strict_types=1);

namespace Ws2Api;

/** An answer over HTTP: ours to ws2api, or its to us. */
final class Response
{
    /** @param array<string, string> $headers */
    public function __construct(
        public readonly int $status,
        public readonly array $headers = [],
        public readonly string $body = '',
    ) {
    }

    public static function json(int $status, mixed $value, array $headers = []): self
    {
        return new self($status, ['Content-Type' => 'application/json', ...$headers], Json::payload($value));
    }

    public function header(string $name): ?string
    {
        return array_change_key_case($this->headers)[strtolower($name)] ?? null;
    }

    /** Seconds, if it says when to come back. */
    public function retryAfter(): ?int
    {
        $value = $this->header('Retry-After');
        return $value !== null && ctype_digit($value) ? (int) $value : null;
    }
}
