<?php

declare(strict_types=1);

namespace Ws2Api;

use Psr\Http\Message\ResponseFactoryInterface;
use Psr\Http\Message\ResponseInterface;
use Psr\Http\Message\ServerRequestInterface;
use Psr\Http\Message\StreamFactoryInterface;
use Psr\Http\Server\MiddlewareInterface;
use Psr\Http\Server\RequestHandlerInterface;

/** The router as a handler or a middleware of PSR-15: for RoadRunner, and for every framework that speaks it. */
final class Handler implements RequestHandlerInterface, MiddlewareInterface
{
    /** @param \Closure(Request): Response|null $others answers what is not a path of ws2api's; otherwise that is 404 */
    public function __construct(
        private readonly Router $router,
        private readonly ResponseFactoryInterface $responses,
        private readonly StreamFactoryInterface $streams,
        private readonly ?\Closure $others = null,
    ) {
    }

    public function handle(ServerRequestInterface $request): ResponseInterface
    {
        $ours = $this->request($request);
        $response = $this->router->handle($ours) ?? ($this->others === null ? null : ($this->others)($ours));
        return $this->response($response ?? new Response(404));
    }

    /** What is not a path of ws2api's goes on to `$handler`. */
    public function process(ServerRequestInterface $request, RequestHandlerInterface $handler): ResponseInterface
    {
        $response = $this->router->handle($this->request($request));
        return $response === null ? $handler->handle($request) : $this->response($response);
    }

    private function request(ServerRequestInterface $request): Request
    {
        $headers = array_map(static fn (array $values): string => implode(', ', $values), $request->getHeaders());
        $target = $request->getUri()->getPath();
        return Request::from($request->getMethod(), $target, $headers, (string) $request->getBody(), $this->router->prefix);
    }

    private function response(Response $response): ResponseInterface
    {
        $answer = $this->responses->createResponse($response->status)
            ->withBody($this->streams->createStream($response->body));
        foreach ($response->headers as $name => $value) {
            $answer = $answer->withHeader($name, $value);
        }
        return $answer;
    }
}
