<?php

declare(strict_types=1);

namespace Ws2Api;

/** The client's CallResult to a push. */
final class Answer
{
    public function __construct(public readonly string $messageId, private readonly string $body)
    {
    }

    /** @return array<mixed> */
    public function payload(): array
    {
        return Json::members($this->body);
    }

    /** The client's bytes. */
    public function raw(): Raw
    {
        return new Raw($this->body);
    }
}
