<?php

declare(strict_types=1);

namespace Ws2Api\Tests;

use Nyholm\Psr7\Factory\Psr17Factory;
use PHPUnit\Framework\TestCase;
use Psr\Http\Message\ResponseInterface;
use Psr\Http\Message\ServerRequestInterface;
use Psr\Http\Server\RequestHandlerInterface;
use Ws2Api\Attribute\Call;
use Ws2Api\Handler;
use Ws2Api\Raw;
use Ws2Api\Request;
use Ws2Api\Response;
use Ws2Api\Router;

final class HandlerTest extends TestCase
{
    private Psr17Factory $factory;
    private Router $router;

    protected function setUp(): void
    {
        if (!class_exists(Psr17Factory::class)) {
            self::markTestSkipped('there is no PSR-7 (Debian: php-nyholm-psr7)');
        }
        $this->factory = new Psr17Factory();
        $this->router = (new Router())->add(new class {
            #[Call]
            public function any(string $client, Request $request): Raw
            {
                return new Raw("[\"$client\",{$request->raw()},\"{$request->header('x-subprotocol')}\"]");
            }
        });
    }

    public function testARequestOfPsr7IsHandled(): void
    {
        $handler = new Handler($this->router, $this->factory, $this->factory);
        $response = $handler->handle($this->request('/call/A/CP%2B%201/m%2F1', '{"n":1.0}'));
        self::assertSame(200, $response->getStatusCode());
        self::assertSame(['application/json'], $response->getHeader('Content-Type'));
        self::assertSame('["CP+ 1",{"n":1.0},"ocpp1.6"]', (string) $response->getBody());
        self::assertSame(404, $handler->handle($this->request('/start/CP1', ''))->getStatusCode());
    }

    public function testOwnPathsAreAnsweredByTheOtherFunction(): void
    {
        $others = static fn (Request $request): Response => new Response(200, ['X-Own' => '1'], $request->kind);
        $response = (new Handler($this->router, $this->factory, $this->factory, $others))->handle($this->request('/start/CP1', ''));
        self::assertSame(['start', '1'], [(string) $response->getBody(), $response->getHeaderLine('X-Own')]);
    }

    public function testAsAMiddlewareItLetsOtherPathsThrough(): void
    {
        $next = new class ($this->factory) implements RequestHandlerInterface {
            public function __construct(private readonly Psr17Factory $factory)
            {
            }

            public function handle(ServerRequestInterface $request): ResponseInterface
            {
                return $this->factory->createResponse(299);
            }
        };
        $middleware = new Handler($this->router, $this->factory, $this->factory);
        self::assertSame(200, $middleware->process($this->request('/call/A/CP1/1', '{}'), $next)->getStatusCode());
        self::assertSame(299, $middleware->process($this->request('/invoices', ''), $next)->getStatusCode());
    }

    private function request(string $path, string $body): ServerRequestInterface
    {
        return $this->factory->createServerRequest('POST', "http://127.0.0.1:5000$path")
            ->withHeader('X-Subprotocol', 'ocpp1.6')
            ->withBody($this->factory->createStream($body));
    }
}
