<?php

declare(strict_types=1);

namespace Ws2Api;

/** Names a Call that was deferred. As a string it can wait in a database or a queue. */
final class Ticket implements \Stringable
{
    public function __construct(
        public readonly string $action,
        public readonly string $clientId,
        public readonly string $messageId,
        public readonly string $connectionId,
    ) {
    }

    /** @throws \JsonException */
    public static function from(string $text): self
    {
        return new self(...array_map(strval(...), array_values((array) Json::decode($text))));
    }

    public function __toString(): string
    {
        return Json::payload([$this->action, $this->clientId, $this->messageId, $this->connectionId]);
    }
}
