<?php

declare(strict_types=1);

namespace Ws2Api;

/** The client answered with a CallError. */
final class ClientError extends PushFailed
{
    /** @param array<mixed> $details */
    public function __construct(
        public readonly string $errorCode,
        public readonly string $description,
        public readonly array $details,
    ) {
        parent::__construct("the client answered $errorCode: $description");
    }

    /** @param array<mixed> $body `{"code","description","details"}` */
    public static function from(array $body): self
    {
        return new self(
            (string) ($body['code'] ?? ''),
            (string) ($body['description'] ?? ''),
            (array) ($body['details'] ?? []),
        );
    }

    /** It was the client's own decision. */
    public function mayHaveRun(): bool
    {
        return true;
    }
}
