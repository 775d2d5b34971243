<?php

declare(strict_types=1);

namespace Ws2Api\Tests;

use Ws2Api\Response;
use Ws2Api\Transport;

/** Answers with what it was given, one after the other, and remembers what was asked. */
final class ScriptedTransport implements Transport
{
    /** @var list<array{string, string, array<string, string>, string, int}> */
    public array $requests = [];
    /** @var list<Response|\Throwable> */
    private array $answers;

    public function __construct(Response|\Throwable ...$answers)
    {
        $this->answers = array_values($answers);
    }

    public function request(string $method, string $path, array $headers, string $body, int $timeout): Response
    {
        $this->requests[] = [$method, $path, $headers, $body, $timeout];
        $answer = array_shift($this->answers) ?? throw new \LogicException("nothing to answer $method $path with");
        return $answer instanceof Response ? $answer : throw $answer;
    }
}
